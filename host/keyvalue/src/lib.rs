//! Key-value storage for tasks (`wasi:keyvalue`), on Redis or SQLite, behind
//! [`KeyValue`](petiole_permits::KeyValue).

mod address;
mod connect;
mod database;
mod redis;
mod sqlite;

use std::time::Duration;

pub use connect::{ConnectError, check, check_files, connect};

/// How long an answer is waited for, reconnecting as needed.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);
