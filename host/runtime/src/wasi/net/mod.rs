//! Outbound connections and HTTP requests, each checked against the task's rules before it is made.

pub(crate) mod egress;
pub(crate) mod http;
pub(crate) mod metered;
pub(crate) mod request_body;
pub(crate) mod sockets;
