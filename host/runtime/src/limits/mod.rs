//! Meters, counts and budgets, which hold each call, and all of them together, to their limits.

pub(crate) mod budget;
pub(crate) mod counts;
pub(crate) mod descriptors;
pub(crate) mod exceeded;
pub(crate) mod limiter;
pub(crate) mod meter;
pub(crate) mod off_the_executor;
