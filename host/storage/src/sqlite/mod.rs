//! SQLite: files, results and key-value storage.

mod database;
pub(crate) mod keyvalue;
pub(crate) mod results;

pub use database::{Database, DatabaseError, Waits};
/// For crates that keep tables of their own in a [`Database`].
pub use rusqlite;
