//! `wasi:filesystem`: the operator's folders, and a temporary one.

pub(crate) mod descriptors;
mod opening;
mod quota;
mod removal;
mod root;
pub(crate) mod storage;
mod streams;
mod tally;
mod temp;
pub(crate) mod view;
