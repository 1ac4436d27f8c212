//! `petiole:task`: the interfaces that Petiole has for its guests.

pub(crate) mod bindings;
pub(crate) mod canvas;
pub(crate) mod context;
mod json_argument;
mod log;
pub(crate) mod progress;
