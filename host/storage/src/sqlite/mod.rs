//! SQLite: a file, and what is stored there.

mod database;
pub(crate) mod keyvalue;
pub(crate) mod results;

pub use database::{Database, DatabaseError};
/// The SQL of those who keep tables of their own in a [`Database`].
pub use rusqlite;
