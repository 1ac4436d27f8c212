//! Key-value storage for tasks (`wasi:keyvalue`), behind [`KeyValue`](petiole_permits::KeyValue).

mod address;
mod connect;

use std::time::Duration;

pub use connect::{ConnectError, check, check_files, connect};

/// Time for an answer, reconnecting as needed.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);
