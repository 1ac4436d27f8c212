//! The broker's file: its format, and the reporting of its faults.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use petiole_storage::sqlite::rusqlite::{self, Connection};
use petiole_storage::sqlite::{Database, DatabaseError, Waits};

use crate::BrokerError;

/// `PRAGMA user_version` of the schema.
const VERSION: i64 = 2;
/// The time for which another process may keep the file locked. An answer is waited for however long the disk takes:
/// a message that is given up while it waits would be written twice.
const WAITS: Waits = Waits {
    lock: Duration::from_secs(10),
    answer: None,
};

/// A handle on the file, which is closed with the last one.
#[derive(Clone)]
pub(super) struct File {
    path: PathBuf,
    database: Database,
    /// True if the last operation succeeded.
    usable: Arc<AtomicBool>,
}

impl File {
    /// Opens the file, or makes it.
    pub(super) async fn open(path: PathBuf) -> Result<Self, BrokerError> {
        let database = Database::open(path.clone(), WAITS, prepare);
        let file = Self {
            database: database.await.map_err(|error| failed(&path, error))?,
            path,
            usable: Arc::new(AtomicBool::new(true)),
        };
        let version = file.read(version).await?;
        if version != VERSION {
            let reason = format!("its format is version {version}, and this is made for {VERSION}");
            return Err(BrokerError::Database {
                path: file.path.display().to_string(),
                reason,
            });
        }
        Ok(file)
    }

    /// Reads, outside of a transaction.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let read = self.database.read(operation).await;
        self.noted(read)
    }

    /// Writes; done once it is on the disk. An operation that fails leaves nothing behind.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let written = self.database.write(operation).await;
        self.noted(written)
    }

    /// False while the file is gone, or refuses what is done with it.
    pub(super) fn usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    fn noted<T>(&self, done: Result<T, DatabaseError>) -> Result<T, BrokerError> {
        self.usable.store(done.is_ok(), Ordering::Relaxed);
        done.map_err(|error| failed(&self.path, error))
    }
}

fn failed(path: &Path, error: DatabaseError) -> BrokerError {
    match error {
        DatabaseError::Ended => BrokerError::Closed,
        error => BrokerError::Database {
            path: path.display().to_string(),
            reason: error.to_string(),
        },
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let sql = match version(connection)? {
        0 => include_str!("schema.sql"),
        1 => "ALTER TABLE messages ADD COLUMN properties TEXT NOT NULL DEFAULT '{}'",
        _ => return Ok(()),
    };
    connection.execute_batch(sql)?;
    connection.pragma_update(None, "user_version", VERSION)
}
