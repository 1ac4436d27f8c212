//! A SQLite file, used from one thread of its own: writes that wait there share a transaction, so that one write to
//! the disk serves many.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio::time::error::Elapsed;
use tokio::time::{self, timeout_at};

/// Operations queued for the thread; further callers wait for room.
const WAITING: usize = 1024;
/// Operations taken from the queue at once; their writes share a transaction.
const BATCH: usize = 512;
/// The pause before the switch to WAL is tried again.
const WAL_PAUSE: Duration = Duration::from_millis(10);

/// A fault of the file: a transaction that fails does so for everyone in it.
type Fault = Arc<rusqlite::Error>;

/// Runs, unless there is a fault already.
type Operation = Box<dyn FnOnce(Result<&Connection, Fault>) -> Ran + Send>;

/// An operation that has run.
struct Ran {
    fault: Option<Fault>,
    /// Takes the commit's result.
    finish: Box<dyn FnOnce(Result<(), Fault>)>,
}

enum Access {
    Read,
    Write,
}

/// An operation that is not known to have been carried out.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    /// No answer came in time.
    #[error(transparent)]
    Late(#[from] Elapsed),
    /// The file's thread has ended.
    #[error("the thread of the file has ended")]
    Ended,
    /// There is no thread for the file.
    #[error("a thread can't be started: {0}")]
    NoThread(std::io::Error),
}

impl DatabaseError {
    /// True if the same operation may succeed in a moment: the file is locked, or gave no answer.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sqlite(fault) => is_locked(fault),
            Self::Late(_) => true,
            // Nothing starts the thread again.
            Self::Ended | Self::NoThread(_) => false,
        }
    }
}

/// A handle on the thread, which ends with the last one.
#[derive(Debug, Clone)]
pub struct Database {
    operations: mpsc::Sender<(Access, Operation)>,
    waits: Waits,
}

/// Patience with a file.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// The time for which another process may keep it locked: it bounds each transaction.
    pub lock: Duration,
    /// The time for an answer. An operation that is late may be done all the same: with none, an error says that nothing
    /// was written.
    pub answer: Option<Duration>,
}

impl Waits {
    /// Waits so long for an answer, and half as long for a lock.
    pub fn answer(answer: Duration) -> Self {
        Self {
            lock: answer / 2,
            answer: Some(answer),
        }
    }

    fn deadline(self) -> Option<time::Instant> {
        self.answer.map(|answer| time::Instant::now() + answer)
    }
}

impl Database {
    /// Opens the file, creating it where it is missing, and prepares its tables in one transaction. Other processes may
    /// be doing the same.
    ///
    /// # Errors
    /// If the file is not open in time, or SQLite refuses it.
    pub async fn open(
        path: PathBuf,
        waits: Waits,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<Self, DatabaseError> {
        let (operations, waiting) = mpsc::channel(WAITING);
        let (ready, opened) = oneshot::channel();
        std::thread::Builder::new()
            .name("petiole-sqlite".to_owned())
            .spawn(move || match File::open(path, waits.lock, prepare) {
                Ok(file) => {
                    // Nobody waits any more once the time is up; then the queue is closed too.
                    let _ = ready.send(Ok(()));
                    file.serve(waiting);
                }
                Err(error) => {
                    let _ = ready.send(Err(Arc::new(error)));
                }
            })
            .map_err(DatabaseError::NoThread)?;
        answer(waits.deadline(), opened).await?;
        Ok(Self { operations, waits })
    }

    /// Reads, outside of a transaction.
    ///
    /// # Errors
    /// If there is no answer in time, or SQLite refuses.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(Access::Read, operation).await
    }

    /// Writes; done once it is on the disk. An operation that fails leaves nothing behind.
    ///
    /// # Errors
    /// If there is no answer in time, or SQLite refuses.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(Access::Write, operation).await
    }

    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        operation: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let deadline = self.waits.deadline();
        let (reply, result) = oneshot::channel();
        let operation: Operation = Box::new(move |connection| {
            let result = connection.and_then(|connection| operation(connection).map_err(Arc::new));
            Ran {
                fault: result.as_ref().err().cloned(),
                finish: Box::new(move |committed| {
                    // A caller that no longer waits does not need to know.
                    let _ = reply.send(committed.and(result));
                }),
            }
        });
        let sent = within(deadline, self.operations.send((access, operation))).await?;
        sent.map_err(|_| DatabaseError::Ended)?;
        answer(deadline, result).await
    }
}

async fn within<T>(
    deadline: Option<time::Instant>,
    answer: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, answer).await,
        None => Ok(answer.await),
    }
}

async fn answer<T>(
    deadline: Option<time::Instant>,
    answer: oneshot::Receiver<Result<T, Fault>>,
) -> Result<T, DatabaseError> {
    match within(deadline, answer).await? {
        Ok(answer) => answer.map_err(DatabaseError::Sqlite),
        Err(_) => Err(DatabaseError::Ended),
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The open file, and the identity of the file that its path named then.
struct File {
    connection: Connection,
    path: PathBuf,
    identity: Option<Identity>,
}

impl File {
    fn open(
        path: PathBuf,
        lock_wait: Duration,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Self> {
        // Without SQLITE_OPEN_URI, which would read a path of the form file:...
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(lock_wait)?;
        // Switching to WAL takes an exclusive lock that SQLite's busy timeout does not cover.
        let deadline = Instant::now() + lock_wait;
        while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
            if !is_locked(&error) || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(WAL_PAUSE);
        }
        // An answered write has to outlive a power cut: a message is acked or confirmed right after.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        prepare(&transaction)?;
        transaction.commit()?;
        Ok(Self {
            identity: identity(&path),
            connection,
            path,
        })
    }

    /// Checks that the path still names this file: SQLite goes on in a deleted file, which nobody else reads.
    fn check(&self) -> rusqlite::Result<()> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED),
            Some("the file was deleted or replaced while it was open: put it back, or start the worker again".to_owned()),
        ))
    }

    fn serve(mut self, mut waiting: mpsc::Receiver<(Access, Operation)>) {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
            let moved = self.check().map_err(Arc::new);
            let mut writes = Vec::new();
            for (access, operation) in batch.drain(..) {
                match (&moved, access) {
                    (Err(moved), _) => refuse(operation, moved),
                    // Before the commit, which waits for the disk.
                    (Ok(()), Access::Read) => (operation(Ok(&self.connection)).finish)(Ok(())),
                    (Ok(()), Access::Write) => writes.push(operation),
                }
            }
            if !writes.is_empty() {
                self.write(writes);
            }
        }
    }

    fn write(&mut self, operations: Vec<Operation>) {
        let mut ran = Vec::with_capacity(operations.len());
        let mut operations = operations.into_iter();
        let committed = self.commit(&mut operations, &mut ran);
        for Ran { finish, .. } in ran {
            finish(committed.clone());
        }
        if let Err(fault) = committed {
            operations.for_each(|operation| refuse(operation, &fault));
        }
    }

    /// Runs all in one transaction, each in a savepoint of its own: one that fails is undone, and no other.
    fn commit(
        &mut self,
        operations: &mut impl Iterator<Item = Operation>,
        ran: &mut Vec<Ran>,
    ) -> Result<(), Fault> {
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for operation in operations {
            let savepoint = transaction.savepoint().map_err(Arc::new);
            let one = operation(savepoint.as_deref().map_err(Arc::clone));
            let fault = one.fault.clone();
            ran.push(one);
            let savepoint = savepoint?;
            match fault {
                None => savepoint.commit()?,
                // SQLite gives up the whole transaction for some faults (a full disk).
                Some(fault) if savepoint.is_autocommit() => return Err(fault),
                // Rolls back what was done of it.
                Some(_) => savepoint.finish()?,
            }
        }
        Ok(transaction.commit()?)
    }
}

fn refuse(operation: Operation, fault: &Fault) {
    (operation(Err(Arc::clone(fault))).finish)(Ok(()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
