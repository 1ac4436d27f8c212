//! Redis: the server that a URL names, and what is stored there.

mod client;
pub(crate) mod keyvalue;
mod options;
pub(crate) mod results;
pub(crate) mod server;
