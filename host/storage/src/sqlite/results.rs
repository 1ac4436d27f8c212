//! The embedded backend: a table in a SQLite file that several processes may share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use petiole_celery::{Commit, RunKey, State, TaskMeta};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::database::{Database, DatabaseError, Waits};
use crate::results::backend::{BACKEND_WAIT, End, RECORD_LIFE, ResultBackend, whole_seconds};
use crate::results::error::{ResultError, parse, read};

/// A run that no task has, for trying whether anything can be stored.
const PROBE: &str = "probe";
/// Interval between deletions of expired rows, which readers never see, and the most rows of a table per deletion.
const SWEEP_INTERVAL_MS: i64 = 60_000;
const SWEEP_ROWS: usize = 1000;
/// The pause before the rest is deleted, where one pass was not enough: others wait for the transaction.
const SWEEP_PAUSE_MS: i64 = 100;

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

/// Results in a SQLite file.
pub(crate) struct SqliteBackend {
    name: String,
    database: Database,
    expires_ms: Option<i64>,
    swept_at: Arc<AtomicI64>,
}

/// Rows that are stored in one step.
struct Store {
    results: Vec<Row>,
    run: Option<Run>,
}

struct Row {
    task_id: String,
    succeeded: bool,
    meta: String,
}

struct Run {
    key: String,
    /// None to store a state alone.
    record: Option<Vec<u8>>,
    replaces: bool,
}

impl From<&TaskMeta> for Row {
    fn from(meta: &TaskMeta) -> Self {
        Self {
            task_id: meta.task_id.clone(),
            succeeded: meta.status == State::Success,
            meta: meta.to_text(),
        }
    }
}

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
        let database = Database::open(path, Waits::answer(BACKEND_WAIT), |connection| {
            connection.execute_batch(SCHEMA)
        });
        Ok(Self {
            database: database.await.map_err(|error| failed(&name, error))?,
            name,
            expires_ms,
            swept_at: Arc::new(AtomicI64::new(i64::MIN)),
        })
    }

    /// Returns the earlier record that kept it out, if any.
    async fn write(&self, store: Store) -> Result<Option<Vec<u8>>, ResultError> {
        let (expires_ms, swept_at) = (self.expires_ms, Arc::clone(&self.swept_at));
        let written = self.database.write(move |connection| {
            let now = Timestamp::now().as_millisecond();
            let earlier = store.carry_out(connection, expires_ms, now)?;
            sweep_when_due(connection, &swept_at, now);
            Ok(earlier)
        });
        written.await.map_err(|error| failed(&self.name, error))
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ResultError> {
        let read = self
            .database
            .read(move |connection| query(connection, Timestamp::now().as_millisecond()));
        read.await.map_err(|error| failed(&self.name, error))
    }
}

fn failed(name: &str, error: DatabaseError) -> ResultError {
    let backend = name.to_owned();
    match error.is_passing() {
        true => ResultError::Unreachable {
            backend,
            source: error.into(),
        },
        false => ResultError::Refused {
            backend,
            // a full disk, a folder that can't be written: an operator fixes them
            is_final: false,
            source: error.into(),
        },
    }
}

impl ResultBackend for SqliteBackend {
    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        let run = Run {
            key: PROBE.to_owned(),
            record: Some(Vec::new()),
            replaces: true,
        };
        let probe = Store {
            results: Vec::new(),
            run: Some(run),
        };
        Box::pin(async move { self.write(probe).await.map(drop) })
    }

    fn store<'a>(&'a self, meta: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        let store = Store {
            results: vec![meta.into()],
            run: None,
        };
        Box::pin(async move { self.write(store).await.map(drop) })
    }

    fn tell<'a>(
        &'a self,
        run: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>> {
        let run = Run {
            key: run.to_string(),
            record: None,
            replaces: false,
        };
        let tell = Store {
            results: vec![meta.into()],
            run: Some(run),
        };
        Box::pin(async move { self.write(tell).await.map(drop) })
    }

    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        Box::pin(async move {
            let run = Run {
                key: end.run.to_string(),
                record: Some(end.record.to_vec()),
                replaces: end.replaces,
            };
            let commit = Store {
                results: end.results.iter().map(Row::from).collect(),
                run: Some(run),
            };
            let earlier = self.write(commit).await?;
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
            let record = self.read(move |connection, now| committed(connection, &key, now));
            record
                .await?
                .map(|record| read(&self.name, run, record))
                .transpose()
        })
    }

    fn fetch<'a>(&'a self, task_id: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        Box::pin(async move {
            let id = task_id.to_owned();
            let stored = self.read(move |connection, now| fetch(connection, &id, now));
            stored
                .await?
                .map(|stored| parse(&self.name, task_id, stored.as_bytes()))
                .transpose()
        })
    }
}

impl Store {
    /// Returns the earlier record that kept it out, if any.
    fn carry_out(
        &self,
        connection: &Connection,
        expires_ms: Option<i64>,
        now: i64,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        if let Some(run) = &self.run {
            let earlier = match run.replaces {
                true => None,
                false => committed(connection, &run.key, now)?,
            };
            let earlier = earlier.filter(|earlier| Some(earlier) != run.record.as_ref());
            if earlier.is_some() {
                return Ok(earlier);
            }
            if let Some(record) = &run.record {
                let record_life = i64::try_from(RECORD_LIFE.as_millis()).unwrap_or(i64::MAX);
                let expires_at =
                    expires_ms.map(|lifetime| now.saturating_add(lifetime.max(record_life)));
                connection
                    .prepare_cached(COMMIT)?
                    .execute(params![run.key, record, expires_at])?;
            }
        }
        let expires_at = expires_ms.map(|lifetime| now.saturating_add(lifetime));
        let mut statement = connection.prepare_cached(STORE)?;
        for Row {
            task_id,
            succeeded,
            meta,
        } in &self.results
        {
            statement.execute(params![task_id, succeeded, meta, expires_at, now])?;
        }
        Ok(None)
    }
}

fn fetch(connection: &Connection, task_id: &str, now: i64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(FETCH)?
        .query_row(params![task_id, now], |row| row.get(0))
        .optional()
}

fn committed(connection: &Connection, run: &str, now: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(COMMITTED)?
        .query_row(params![run, now], |row| row.get(0))
        .optional()
}

/// Deletes expired rows once they are due; if one pass was not enough, goes on with the next write.
fn sweep_when_due(connection: &Connection, swept_at: &AtomicI64, now: i64) {
    if now.saturating_sub(swept_at.load(Ordering::Relaxed)) < SWEEP_INTERVAL_MS {
        return;
    }
    match sweep(connection, now) {
        Ok(SWEEP_ROWS) => swept_at.store(
            now.saturating_sub(SWEEP_INTERVAL_MS - SWEEP_PAUSE_MS),
            Ordering::Relaxed,
        ),
        Ok(_) => swept_at.store(now, Ordering::Relaxed),
        Err(error) => {
            swept_at.store(now, Ordering::Relaxed);
            tracing::warn!(%error, "expired results could not be deleted");
        }
    }
}

/// Deletes expired rows; returns the number from the table that lost most.
fn sweep(connection: &Connection, now: i64) -> rusqlite::Result<usize> {
    let mut most = 0;
    for sweep in SWEEPS {
        let mut statement = connection.prepare_cached(sweep)?;
        most = most.max(statement.execute(params![now, SWEEP_ROWS])?);
    }
    Ok(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(connection: &Connection, task_id: &str, succeeded: bool, meta: &str, now: i64) {
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
        let store = Store { results, run };
        let earlier = store.carry_out(connection, Some(1000), now).unwrap();
        assert_eq!(earlier, None);
    }

    #[test]
    fn expired_rows_are_unseen_replaceable_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("results.db")).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let fetch = |task_id, now| fetch(&connection, task_id, now).unwrap();
        put(&connection, "a", true, "old", 0);
        put(&connection, "b", true, "kept", 500);
        assert_eq!(fetch("a", 999).as_deref(), Some("old"));
        assert_eq!(fetch("a", 1000), None);
        put(&connection, "b", false, "late failure", 600);
        assert_eq!(fetch("b", 600).as_deref(), Some("kept"));
        assert_eq!(sweep(&connection, 1000).unwrap(), 1);
        put(&connection, "b", false, "new", 1500);
        assert_eq!(fetch("b", 1500).as_deref(), Some("new"));
        assert_eq!(sweep(&connection, 2000).unwrap(), 0);
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
