//! The SQLite file, used from one thread of its own: what waits there goes into one transaction, so that
//! one write to the disk serves many messages.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::BrokerError;

/// `PRAGMA user_version` of the schema.
const VERSION: i64 = 2;
/// Operations that wait for the thread.
const WAITING_LIMIT: usize = 1024;
/// Operations in one transaction.
const BATCH: usize = 512;
/// How long another process may keep the file locked.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Runs in the transaction; what it returns is told the commit's result.
type Operation = Box<dyn FnOnce(&Connection) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Option<&rusqlite::Error>) + Send>;

enum Access {
    Read,
    Write,
}

/// A handle on the thread; the thread ends with the last one.
#[derive(Clone)]
pub(super) struct Database {
    path: PathBuf,
    operations: mpsc::Sender<(Access, Operation)>,
}

impl Database {
    /// Opens the file, or makes it, and starts the thread. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self, BrokerError> {
        let connection = prepare(path).map_err(|error| failed(path, &error))?;
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| failed(path, &error))?;
        if version != VERSION {
            let reason = format!("its format is version {version}, and this is made for {VERSION}");
            return Err(BrokerError::Database {
                path: path.display().to_string(),
                reason,
            });
        }
        let (operations, waiting) = mpsc::channel(WAITING_LIMIT);
        thread::Builder::new()
            .name("petiole-sqlite".to_owned())
            .spawn(move || serve(connection, waiting))
            .map_err(|error| BrokerError::Database {
                path: path.display().to_string(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            path: path.to_owned(),
            operations,
        })
    }

    /// Reads, outside of a transaction.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        self.run(Access::Read, operation).await
    }

    /// Writes; done once it is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        self.run(Access::Write, operation).await
    }

    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (answer, result) = oneshot::channel();
        let path = self.path.clone();
        let operation = move |connection: &Connection| -> Finish {
            let result = operation(connection);
            Box::new(move |failure| {
                let result = match failure {
                    Some(error) => Err(failed(&path, error)),
                    None => result.map_err(|error| failed(&path, &error)),
                };
                // One who no longer waits does not need to know.
                let _ = answer.send(result);
            })
        };
        self.operations
            .send((access, Box::new(operation)))
            .await
            .map_err(|_| BrokerError::Closed)?;
        result.await.map_err(|_| BrokerError::Closed)?
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> BrokerError {
    BrokerError::Database {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn prepare(path: &Path) -> rusqlite::Result<Connection> {
    // Without SQLITE_OPEN_URI, which would read a path of the form file:...
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_LIMIT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A commit is on the disk before it is confirmed.
    connection.pragma_update(None, "synchronous", "full")?;
    // Another process may be making the file at this moment.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    if version == 1 {
        transaction.execute_batch(
            "ALTER TABLE messages ADD COLUMN properties TEXT NOT NULL DEFAULT '{}'",
        )?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(connection)
}

fn serve(mut connection: Connection, mut waiting: mpsc::Receiver<(Access, Operation)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (reads, writes): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .partition(|(access, _)| matches!(access, Access::Read));
        for (_, read) in reads {
            read(&connection)(None);
        }
        if !writes.is_empty() {
            write(&mut connection, writes);
        }
    }
}

fn write(connection: &mut Connection, batch: Vec<(Access, Operation)>) {
    let mut finishes = Vec::with_capacity(batch.len());
    let committed = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .and_then(|transaction| {
            for (_, operation) in batch {
                finishes.push(operation(&transaction));
            }
            transaction.commit()
        });
    if let Err(error) = &committed {
        error!(%error, "the broker's file can't be written");
    }
    for finish in finishes {
        finish(committed.as_ref().err());
    }
}
