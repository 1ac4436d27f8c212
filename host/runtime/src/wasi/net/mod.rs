//! Outbound connections and HTTP requests, each checked against the task's rules before it is made.

pub(crate) mod egress;
pub(crate) mod http;
mod metered;
pub(crate) mod network;
pub(crate) mod sockets;
