//! Telling what a worker does: its metrics and its log.

pub(crate) mod excerpt;
pub(crate) mod lines;
pub(crate) mod metrics;
pub(crate) mod outage;
pub(crate) mod report;
pub(crate) mod run_report;
