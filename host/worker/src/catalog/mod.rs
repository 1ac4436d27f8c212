//! The modules that are active, their tasks, and what these are granted.

pub(crate) mod active;
pub(crate) mod announce;
pub(crate) mod declared;
pub(crate) mod defaults;
pub(crate) mod grants;
pub(crate) mod not_granted;
pub(crate) mod registered;
pub(crate) mod registry;
pub(crate) mod settings_error;
pub(crate) mod task_config;
pub(crate) mod trouble;
