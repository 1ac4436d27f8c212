//! Redis: servers by their URLs, results and key-value storage.

mod client;
pub(crate) mod keyvalue;
mod options;
pub(crate) mod results;
pub(crate) mod server;
