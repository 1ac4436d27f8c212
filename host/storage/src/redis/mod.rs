//! Redis: the server that a URL names, and what is stored there.

pub(crate) mod keyvalue;
pub(crate) mod results;
pub(crate) mod server;
