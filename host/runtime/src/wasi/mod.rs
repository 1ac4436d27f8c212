//! WASI 0.2 as far as a task is granted it, metered.

pub(crate) mod cli;
pub(crate) mod files;
pub(crate) mod keyvalue;
pub(crate) mod net;
pub(crate) mod random;
