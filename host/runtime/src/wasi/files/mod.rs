//! `wasi:filesystem`: the operator's folders, and a temporary one.

pub(crate) mod descriptors;
pub(crate) mod folders;
mod opening;
mod quota;
mod removal;
mod root;
mod streams;
mod tally;
mod temp;
pub(crate) mod view;
