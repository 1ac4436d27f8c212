//! Turns that a delivery waits for: among those of its run, of its module, of the worker.

pub(crate) mod module;
pub(crate) mod runs;
pub(crate) mod slot;
