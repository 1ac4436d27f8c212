//! The embedded backend: a table in a SQLite file that several processes may share.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use petiole_celery::{Commit, RunKey, State, TaskMeta};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::results::backend::{BACKEND_WAIT, End, RECORD_LIFE, ResultBackend, whole_seconds};
use crate::results::error::{ResultError, parse, read};

/// The run that no task has: under it is tried whether anything can be stored.
const PROBE: &str = "probe";
/// Requests that wait for the thread; whoever comes later waits before it.
const QUEUE: usize = 256;
/// Requests carried out in one transaction, which costs one sync of the disk.
const BATCH: usize = 256;
/// How long another process may hold the file's write lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often expired rows are deleted, at most so many at a time. Readers never see them.
const SWEEP_INTERVAL_MS: i64 = 60_000;
const SWEEP_ROWS: usize = 1000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS petiole_result (
    task_id TEXT PRIMARY KEY,
    succeeded INTEGER NOT NULL,
    meta TEXT NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS petiole_result_expires_at ON petiole_result (expires_at);
CREATE TABLE IF NOT EXISTS petiole_run (
    run TEXT PRIMARY KEY,
    record BLOB NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS petiole_run_expires_at ON petiole_run (expires_at);
";

/// The row is replaced unless it is a SUCCESS that has not expired.
const STORE: &str = "
INSERT INTO petiole_result (task_id, succeeded, meta, expires_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (task_id) DO UPDATE
SET succeeded = excluded.succeeded, meta = excluded.meta, expires_at = excluded.expires_at
WHERE NOT succeeded OR expires_at <= ?5";

const FETCH: &str = "SELECT meta FROM petiole_result WHERE task_id = ?1 AND (expires_at IS NULL OR expires_at > ?2)";

const COMMIT: &str = "
INSERT INTO petiole_run (run, record, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (run) DO UPDATE SET record = excluded.record, expires_at = excluded.expires_at";

const COMMITTED: &str =
    "SELECT record FROM petiole_run WHERE run = ?1 AND (expires_at IS NULL OR expires_at > ?2)";

const SWEEPS: [&str; 2] = [
    "DELETE FROM petiole_result
     WHERE task_id IN (SELECT task_id FROM petiole_result WHERE expires_at <= ?1 LIMIT ?2)",
    "DELETE FROM petiole_run
     WHERE run IN (SELECT run FROM petiole_run WHERE expires_at <= ?1 LIMIT ?2)",
];

/// Results in a SQLite file. A thread of its own has the connection, and commits what came in
/// during the last commit as one transaction.
pub(crate) struct SqliteBackend {
    name: String,
    requests: mpsc::Sender<Request>,
}

enum Request {
    Store(Store),
    Fetch {
        task_id: String,
        reply: Reply<String>,
    },
    Committed {
        run: String,
        reply: Reply<Vec<u8>>,
    },
}

/// What is stored in one step. The reply is the record that kept it out.
struct Store {
    results: Vec<Row>,
    run: Option<Run>,
    reply: Reply<Vec<u8>>,
}

struct Row {
    task_id: String,
    succeeded: bool,
    meta: String,
}

struct Run {
    key: String,
    /// None where only a state is told.
    record: Option<Vec<u8>>,
    replaces: bool,
}

type Reply<T> = oneshot::Sender<Result<Option<T>, Fault>>;

impl From<&TaskMeta> for Row {
    fn from(meta: &TaskMeta) -> Self {
        Self {
            task_id: meta.task_id.clone(),
            succeeded: meta.status == State::Success,
            meta: meta.to_text(),
        }
    }
}

/// A failed commit fails for everyone in it.
type Fault = Arc<rusqlite::Error>;

impl SqliteBackend {
    /// Opens the file, creating it where it is missing; `name` is its URL.
    pub(crate) async fn open(
        name: String,
        path: PathBuf,
        expires: Duration,
    ) -> Result<Self, ResultError> {
        let expires_ms = whole_seconds(expires).map(|seconds| {
            i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(1000)
        });
        let (requests, queue) = mpsc::channel(QUEUE);
        let (ready, opened) = oneshot::channel();
        let backend = Self { name, requests };
        std::thread::Builder::new()
            .name("petiole-results".to_owned())
            .spawn(move || match File::open(path) {
                Ok(file) => {
                    // Nobody waits for an answer after BACKEND_WAIT; then the queue is closed too.
                    let _ = ready.send(Ok(()));
                    Writer {
                        file,
                        expires_ms,
                        swept_at: i64::MIN,
                    }
                    .run(queue);
                }
                Err(error) => {
                    let _ = ready.send(Err(Arc::new(error)));
                }
            })
            .map_err(|error| ResultError::Refused {
                backend: backend.name.clone(),
                is_final: false,
                source: error.into(),
            })?;
        backend
            .answer(Instant::now() + BACKEND_WAIT, opened)
            .await?;
        Ok(backend)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<Option<T>, ResultError> {
        let deadline = Instant::now() + BACKEND_WAIT;
        let (reply, answer) = oneshot::channel();
        match timeout_at(deadline, self.requests.send(request(reply))).await {
            Ok(Ok(())) => self.answer(deadline, answer).await,
            Ok(Err(closed)) => Err(self.unreachable(closed.to_string())),
            Err(elapsed) => Err(self.unreachable(elapsed)),
        }
    }

    async fn answer<T>(
        &self,
        deadline: Instant,
        answer: oneshot::Receiver<Result<T, Fault>>,
    ) -> Result<T, ResultError> {
        match timeout_at(deadline, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(fault))) if is_locked(&fault) => Err(self.unreachable(fault)),
            Ok(Ok(Err(fault))) => Err(ResultError::Refused {
                backend: self.name.clone(),
                // a full disk, a folder that can't be written: an operator mends them
                is_final: false,
                source: fault.into(),
            }),
            Ok(Err(closed)) => Err(self.unreachable(closed)),
            Err(elapsed) => Err(self.unreachable(elapsed)),
        }
    }

    fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ResultError {
        ResultError::Unreachable {
            backend: self.name.clone(),
            source: source.into(),
        }
    }
}

impl ResultBackend for SqliteBackend {
    fn store<'a>(&'a self, meta: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        Box::pin(async move {
            let results = vec![meta.into()];
            let store = |reply| Store {
                results,
                run: None,
                reply,
            };
            self.ask(|reply| Request::Store(store(reply)))
                .await
                .map(drop)
        })
    }

    fn tell<'a>(
        &'a self,
        run: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>> {
        Box::pin(async move {
            let run = Run {
                key: run.to_string(),
                record: None,
                replaces: false,
            };
            let results = vec![meta.into()];
            let store = |reply| Store {
                results,
                run: Some(run),
                reply,
            };
            self.ask(|reply| Request::Store(store(reply)))
                .await
                .map(drop)
        })
    }

    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        Box::pin(async move {
            let store = |reply| Store {
                results: end.results.iter().map(Row::from).collect(),
                run: Some(Run {
                    key: end.run.to_string(),
                    record: Some(end.record.to_vec()),
                    replaces: end.replaces,
                }),
                reply,
            };
            let earlier = self.ask(|reply| Request::Store(store(reply))).await?;
            earlier
                .map(|record| read(&self.name, end.run, record))
                .transpose()
        })
    }

    fn committed<'a>(
        &'a self,
        run: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        Box::pin(async move {
            let key = run.to_string();
            let record = self
                .ask(|reply| Request::Committed { run: key, reply })
                .await?;
            record
                .map(|record| read(&self.name, run, record))
                .transpose()
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        Box::pin(async move {
            let run = Run {
                key: PROBE.to_owned(),
                record: Some(Vec::new()),
                replaces: true,
            };
            let store = |reply| Store {
                results: Vec::new(),
                run: Some(run),
                reply,
            };
            self.ask(|reply| Request::Store(store(reply)))
                .await
                .map(drop)
        })
    }

    fn fetch<'a>(&'a self, task_id: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        Box::pin(async move {
            let stored = self
                .ask(|reply| Request::Fetch {
                    task_id: task_id.to_owned(),
                    reply,
                })
                .await?;
            stored
                .map(|stored| parse(&self.name, task_id, stored.as_bytes()))
                .transpose()
        })
    }
}

/// Opens a file that other processes may be opening at the same time.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(LOCK_WAIT)?;
    // Switching to WAL takes an exclusive lock that SQLite's busy timeout does not cover.
    let deadline = std::time::Instant::now() + LOCK_WAIT;
    while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
        if !is_locked(&error) || std::time::Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // A result has to outlive a power cut: its message is acked right after.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let schema = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema.execute_batch(SCHEMA)?;
    schema.commit()?;
    Ok(connection)
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// The file, opened, and what was there then.
struct File {
    connection: Connection,
    path: PathBuf,
    identity: Option<Identity>,
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl File {
    fn open(path: PathBuf) -> Result<Self, rusqlite::Error> {
        let connection = open(&path)?;
        let identity = identity(&path);
        Ok(Self {
            connection,
            path,
            identity,
        })
    }

    /// Whether it is still what its path names: SQLite goes on in a file that was deleted, which nobody else reads.
    fn check(&self) -> Result<(), rusqlite::Error> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED),
            Some("the file was deleted or replaced while it was open: put it back, or start the worker again".to_owned()),
        ))
    }
}

struct Writer {
    file: File,
    expires_ms: Option<i64>,
    swept_at: i64,
}

/// Who asked may have stopped waiting.
fn refuse_all(fault: &Fault, reads: Vec<Request>, stores: Vec<Store>) {
    for request in reads
        .into_iter()
        .chain(stores.into_iter().map(Request::Store))
    {
        match request {
            Request::Store(Store { reply, .. }) | Request::Committed { reply, .. } => {
                let _ = reply.send(Err(Arc::clone(fault)));
            }
            Request::Fetch { reply, .. } => {
                let _ = reply.send(Err(Arc::clone(fault)));
            }
        }
    }
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let waiting = std::iter::from_fn(|| queue.try_recv().ok()).take(BATCH - 1);
            let (mut stores, mut reads) = (Vec::new(), Vec::new());
            for request in std::iter::once(first).chain(waiting) {
                match request {
                    Request::Store(store) => stores.push(store),
                    read @ (Request::Fetch { .. } | Request::Committed { .. }) => reads.push(read),
                }
            }
            let now = jiff::Timestamp::now().as_millisecond();
            if let Err(moved) = self.file.check() {
                refuse_all(&Arc::new(moved), reads, stores);
                continue;
            }
            // Before the commit, which waits for the disk.
            for read in reads {
                self.answer_read(read, now);
            }
            self.answer_stores(stores, now);
            self.sweep_when_due(now);
        }
    }

    fn answer_stores(&mut self, stores: Vec<Store>, now: i64) {
        if stores.is_empty() {
            return;
        }
        let stored = self.store(&stores, now).map_err(Arc::new);
        let mut earlier = stored.as_ref().map(|earlier| earlier.iter().cloned());
        for store in stores {
            let answer = match &mut earlier {
                Ok(earlier) => Ok(earlier.next().flatten()),
                Err(fault) => Err(Arc::clone(fault)),
            };
            let _ = store.reply.send(answer);
        }
    }

    /// Who asked may have stopped waiting.
    fn answer_read(&self, read: Request, now: i64) {
        match read {
            Request::Fetch { task_id, reply } => {
                let _ = reply.send(self.fetch(&task_id, now).map_err(Arc::new));
            }
            Request::Committed { run, reply } => {
                let committed = committed(&self.file.connection, &run, now);
                let _ = reply.send(committed.map_err(Arc::new));
            }
            Request::Store(_) => {}
        }
    }

    /// Stores all in one transaction, and answers for each the record that kept it out.
    fn store(
        &mut self,
        stores: &[Store],
        now: i64,
    ) -> Result<Vec<Option<Vec<u8>>>, rusqlite::Error> {
        let expires_at = self.expires_ms.map(|lifetime| now.saturating_add(lifetime));
        let record_life = i64::try_from(RECORD_LIFE.as_millis()).unwrap_or(i64::MAX);
        let record_expires_at = self
            .expires_ms
            .map(|lifetime| now.saturating_add(lifetime.max(record_life)));
        let transaction = self
            .file
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(stores.len());
        for Store { results, run, .. } in stores {
            if let Some(run) = run {
                let earlier = match run.replaces {
                    true => None,
                    false => committed(&transaction, &run.key, now)?,
                };
                let earlier = earlier.filter(|earlier| Some(earlier) != run.record.as_ref());
                if earlier.is_some() {
                    answers.push(earlier);
                    continue;
                }
                if let Some(record) = &run.record {
                    let commit = params![run.key, record, record_expires_at];
                    transaction.prepare_cached(COMMIT)?.execute(commit)?;
                }
            }
            let mut statement = transaction.prepare_cached(STORE)?;
            for Row {
                task_id,
                succeeded,
                meta,
            } in results
            {
                statement.execute(params![task_id, succeeded, meta, expires_at, now])?;
            }
            answers.push(None);
        }
        transaction.commit()?;
        Ok(answers)
    }

    /// Goes on with the next batch where one pass was not enough.
    fn sweep_when_due(&mut self, now: i64) {
        if now.saturating_sub(self.swept_at) < SWEEP_INTERVAL_MS {
            return;
        }
        match self.sweep(now) {
            Ok(SWEEP_ROWS) => {}
            Ok(_) => self.swept_at = now,
            Err(error) => {
                self.swept_at = now;
                tracing::warn!(%error, "expired results could not be deleted");
            }
        }
    }

    fn fetch(&self, task_id: &str, now: i64) -> Result<Option<String>, rusqlite::Error> {
        self.file
            .connection
            .prepare_cached(FETCH)?
            .query_row(params![task_id, now], |row| row.get(0))
            .optional()
    }

    /// How many rows of the table with most of them were deleted.
    fn sweep(&self, now: i64) -> Result<usize, rusqlite::Error> {
        let mut most = 0;
        for sweep in SWEEPS {
            let mut statement = self.file.connection.prepare_cached(sweep)?;
            most = most.max(statement.execute(params![now, SWEEP_ROWS])?);
        }
        Ok(most)
    }
}

fn committed(
    connection: &Connection,
    run: &str,
    now: i64,
) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .prepare_cached(COMMITTED)?
        .query_row(params![run, now], |row| row.get(0))
        .optional()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(writer: &mut Writer, task_id: &str, succeeded: bool, meta: &str, now: i64) {
        let (reply, mut answer) = oneshot::channel();
        let row = Row {
            task_id: task_id.to_owned(),
            succeeded,
            meta: meta.to_owned(),
        };
        let run = Some(Run {
            key: format!("{task_id}-{now}"),
            record: Some(b"{}".to_vec()),
            replaces: false,
        });
        let results = vec![row];
        writer.answer_stores(
            vec![Store {
                results,
                run,
                reply,
            }],
            now,
        );
        answer.try_recv().unwrap().unwrap();
    }

    #[test]
    fn expired_rows_are_unseen_replaceable_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::open(folder.path().join("results.db")).unwrap();
        let mut writer = Writer {
            file,
            expires_ms: Some(1000),
            swept_at: i64::MIN,
        };
        put(&mut writer, "a", true, "old", 0);
        put(&mut writer, "b", true, "kept", 500);
        assert_eq!(writer.fetch("a", 999).unwrap().as_deref(), Some("old"));
        assert_eq!(writer.fetch("a", 1000).unwrap(), None);
        put(&mut writer, "b", false, "late failure", 600);
        assert_eq!(writer.fetch("b", 600).unwrap().as_deref(), Some("kept"));
        assert_eq!(writer.sweep(1000).unwrap(), 1);
        put(&mut writer, "b", false, "new", 1500);
        assert_eq!(writer.fetch("b", 1500).unwrap().as_deref(), Some("new"));
        assert_eq!(writer.sweep(2000).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_takes_and_gives_nothing_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (
            folder.path().join("results.db"),
            folder.path().join("aside"),
        );
        let backend = SqliteBackend::open(String::new(), path.clone(), Duration::ZERO);
        let backend = backend.await.unwrap();
        backend.probe().await.unwrap();
        std::fs::rename(&path, &aside).unwrap();
        for put in [false, true] {
            if put {
                std::fs::write(&path, "").unwrap();
            }
            let stored = backend.probe().await.unwrap_err();
            let fetched = backend.fetch("a").await.unwrap_err();
            for error in [stored, fetched] {
                let source = std::error::Error::source(&error).unwrap().to_string();
                assert!(
                    !error.is_final() && source.contains("was deleted or replaced"),
                    "{source}"
                );
            }
        }
        std::fs::rename(&aside, &path).unwrap();
        backend.probe().await.unwrap();
    }
}
