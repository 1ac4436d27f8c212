//! A SQLite file, used from one thread of its own: what waits there goes into one transaction, so that one
//! write to the disk serves many.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use petiole_permits::KeyValueError;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, timeout_at};

use crate::keyvalue::ANSWER_WAIT;

/// Operations that wait for the thread; whoever comes later waits before it.
const WAITING: usize = 256;
/// Operations in one transaction.
const BATCH: usize = 64;
/// How long another process may keep the file locked.
const LOCK_WAIT: Duration = Duration::from_secs(3);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS petiole_keyvalue (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT";

/// Runs in the transaction, if there is one; what it returns is told the commit's result.
type Operation = Box<dyn FnOnce(Result<&Connection, Fault>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), Fault>) + Send>;
/// A transaction fails for everyone in it.
type Fault = Arc<rusqlite::Error>;

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

/// A handle on the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Database {
    operations: mpsc::Sender<(Kind, Operation)>,
}

impl Database {
    /// Opens the file, creating it where it is missing.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, KeyValueError> {
        let (operations, waiting) = mpsc::channel(WAITING);
        let (ready, opened) = oneshot::channel();
        std::thread::Builder::new()
            .name("petiole-keyvalue".to_owned())
            .spawn(move || match open(&path) {
                Ok(connection) => {
                    // Nobody waits any more after ANSWER_WAIT; then the queue is closed too.
                    let _ = ready.send(Ok(()));
                    serve(connection, waiting);
                }
                Err(error) => {
                    let _ = ready.send(Err(failed(error)));
                }
            })
            .map_err(|error| KeyValueError::Refused(error.into()))?;
        answer(time::Instant::now() + ANSWER_WAIT, opened).await?;
        Ok(Self { operations })
    }

    /// Reads, outside of a transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, KeyValueError> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        self.run(Kind::Read, operation).await
    }

    /// Writes; done once it is on the disk.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, KeyValueError> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        self.run(Kind::Write, operation).await
    }

    async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        operation: impl FnOnce(&Connection) -> Result<T, KeyValueError> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let deadline = time::Instant::now() + ANSWER_WAIT;
        let (reply, result) = oneshot::channel();
        let operation: Operation = Box::new(move |connection| {
            let result = connection.map_err(failed).and_then(operation);
            Box::new(move |committed| {
                // One who no longer waits does not need to know.
                let _ = reply.send(committed.map_err(failed).and(result));
            })
        });
        match timeout_at(deadline, self.operations.send((kind, operation))).await {
            Ok(Ok(())) => answer(deadline, result).await,
            Ok(Err(closed)) => Err(KeyValueError::Unreachable(closed.to_string().into())),
            Err(elapsed) => Err(KeyValueError::Unreachable(elapsed.into())),
        }
    }
}

async fn answer<T>(
    deadline: time::Instant,
    answer: oneshot::Receiver<Result<T, KeyValueError>>,
) -> Result<T, KeyValueError> {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(closed)) => Err(KeyValueError::Unreachable(closed.into())),
        Err(elapsed) => Err(KeyValueError::Unreachable(elapsed.into())),
    }
}

/// What went wrong in the file.
pub(crate) fn failed(error: impl Into<Fault>) -> KeyValueError {
    let error = error.into();
    if is_locked(&error) {
        KeyValueError::Unreachable(error.into())
    } else {
        KeyValueError::Refused(error.into())
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Opens a file that other processes may be opening at the same time.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    // Without SQLITE_OPEN_URI, which would read a path of the form file:...
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    // Switching to WAL takes an exclusive lock that SQLite's busy timeout does not cover.
    let deadline = Instant::now() + LOCK_WAIT;
    while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
        if !is_locked(&error) || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let schema = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema.execute_batch(SCHEMA)?;
    schema.commit()?;
    Ok(connection)
}

fn serve(mut connection: Connection, mut waiting: mpsc::Receiver<(Kind, Operation)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (reads, writes): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .partition(|(kind, _)| matches!(kind, Kind::Read));
        for (_, read) in reads {
            read(Ok(&connection))(Ok(()));
        }
        if !writes.is_empty() {
            write(&mut connection, writes);
        }
    }
}

fn write(connection: &mut Connection, batch: Vec<(Kind, Operation)>) {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            let error = Arc::new(error);
            for (_, operation) in batch {
                operation(Err(Arc::clone(&error)))(Ok(()));
            }
            return;
        }
    };
    let finishes: Vec<_> = batch
        .into_iter()
        .map(|(_, operation)| operation(Ok(&transaction)))
        .collect();
    let committed = transaction.commit().map_err(Arc::new);
    for finish in finishes {
        finish(committed.clone());
    }
}
