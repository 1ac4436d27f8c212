//! `petiole:task`: the interfaces that Petiole has for its guests.

mod bindings;
pub(crate) mod canvas;
pub(crate) mod context;
mod json_argument;
pub(crate) mod log;
pub(crate) mod progress;
