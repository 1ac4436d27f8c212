//! The trait of result backends.

use std::time::Duration;

use futures::future::BoxFuture;
use petiole_celery::{Commit, RunKey, TaskMeta};
use petiole_permits::Backoff;
use serde_json::Value;
use tokio::time::Instant;

use super::error::ResultError;

/// Celery's default `result_expires`: 1 day.
pub const RESULT_EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);

/// How long what a run has committed is kept at least: its message may come again after a broker was away.
pub const RECORD_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a backend is waited for, reconnecting as needed, before it counts as out of reach.
pub const BACKEND_WAIT: Duration = Duration::from_secs(10);

/// Pauses between two looks at a result that is waited for.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// A result backend that keeps results under the task's id. (`rpc://` is none: there, results are
/// messages, which the plan makes.)
pub trait ResultBackend: Send + Sync {
    /// Tries once what storing and committing need, so that a worker that may not is told before it takes a task. Where
    /// there are no users with rights there is nothing to try.
    ///
    /// # Errors
    /// [`ResultError::NotPermitted`], with what to grant.
    fn check_rights(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tries once whether it takes results, after it did not: what storing needs, under names that no task has.
    ///
    /// # Errors
    /// As [`commit`](Self::commit)'s.
    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>>;

    /// Stores a task's state, unless the one that is stored is a SUCCESS, and wakes those who wait.
    /// Storing the same state twice does no harm.
    fn store<'a>(&'a self, meta: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>>;

    /// Stores a state of a task that runs, unless its run has ended meanwhile on another worker: a record says so.
    fn tell<'a>(
        &'a self,
        run: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>>;

    /// Stores, in one step that happens whole or not at all, how a run has ended and what it commits: its results as
    /// by [`store`](Self::store), and its record under its key, for as long as a result and [`RECORD_LIFE`] at least. Where the run has a record and this
    /// one does not replace it, nothing is stored, and the answer is what was committed before.
    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>>;

    /// What a run has committed; none where it has not ended, or its record has expired.
    fn committed<'a>(
        &'a self,
        run: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>>;

    /// What is stored for a task, as Celery's JSON; none for a task that is not known (PENDING).
    fn fetch<'a>(&'a self, task_id: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>>;

    /// What is stored for a task once its state [is final](is_final); none when the deadline passes
    /// first.
    fn wait<'a>(
        &'a self,
        task_id: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        Box::pin(async move {
            let mut backoff = Backoff::new(FIRST_LOOK, LONGEST_LOOK);
            loop {
                if let Some(meta) = self.fetch(task_id).await?
                    && is_final(&meta)
                {
                    return Ok(Some(meta));
                }
                let pause = backoff.pause();
                if Instant::now() + pause > deadline {
                    return Ok(None);
                }
                tokio::time::sleep(pause).await;
            }
        })
    }
}

/// The end of a run, as it is committed.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Which run.
    pub run: &'a RunKey,
    /// What it leaves to be done: [`Commit::record`].
    pub record: &'a [u8],
    /// Its own result and those of tasks that can't run any more.
    pub results: &'a [TaskMeta],
    /// It replaces what the run has committed before.
    pub replaces: bool,
}

/// Whether a stored result says that the task won't run again: Celery's `READY_STATES`, with
/// REJECTED and IGNORED.
pub fn is_final(meta: &Value) -> bool {
    let status = meta.get("status").and_then(Value::as_str);
    matches!(
        status,
        Some("SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED" | "IGNORED")
    )
}

/// `result_expires` in the whole seconds that backends count; none where results are kept for ever.
pub(crate) fn whole_seconds(expires: Duration) -> Option<u64> {
    let rounded = expires
        .as_secs()
        .saturating_add(u64::from(expires.subsec_nanos() > 0));
    (rounded > 0).then_some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_in_whole_seconds_and_zero_is_never() {
        let table = [
            (0, None),
            (1, Some(1)),
            (1000, Some(1)),
            (1001, Some(2)),
            (86_400_000, Some(86_400)),
        ];
        for (milliseconds, expected) in table {
            assert_eq!(
                whole_seconds(Duration::from_millis(milliseconds)),
                expected,
                "{milliseconds} ms"
            );
        }
        assert_eq!(whole_seconds(Duration::MAX), Some(u64::MAX));
    }
}
