//! Telling what a worker does: its metrics and its log.

pub(crate) mod metrics;
pub(crate) mod outage;
pub(crate) mod task_log;
pub(crate) mod usage;
