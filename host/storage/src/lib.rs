//! Results and values of tasks, in Redis or in SQLite.

pub mod keyvalue;
mod redis;
pub mod results;
pub mod sqlite;
