//! Compiled code: made by a compiler in a process of its own, cached, and checked before it runs.

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod engine;
pub(crate) mod imports;
