//! Waiting for a turn: a slot of the worker, and the one delivery of a run that is under way.

pub(crate) mod runs;
pub(crate) mod slot;
