//! SQLite: a file, and what is stored there.

mod database;
pub(crate) mod keyvalue;
pub(crate) mod results;
