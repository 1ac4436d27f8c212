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

/// Least lifetime of a run's record: its message may come again after a broker was away.
pub const RECORD_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Time for a backend's answer, reconnecting as needed, before it counts as out of reach.
pub const BACKEND_WAIT: Duration = Duration::from_secs(10);

/// Pauses between looks at an awaited result.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// A result backend that keeps results under the task's id. (`rpc://` is none: there, results are
/// messages, which the plan makes.)
pub trait ResultBackend: Send + Sync {
    /// Tries once what storing and committing need, so that a worker without the rights fails before it takes a task.
    /// A backend that knows no users with rights has nothing to try.
    ///
    /// # Errors
    /// [`ResultError::NotPermitted`], with what to grant.
    fn check_rights(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tries once whether it takes results again: all that storing needs, under names that no task has.
    ///
    /// # Errors
    /// As [`commit`](Self::commit)'s.
    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>>;

    /// Stores a task's state, unless a SUCCESS is already stored, and wakes those who wait.
    /// Storing the same state twice does no harm.
    fn store<'a>(&'a self, meta: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>>;

    /// Stores a state of a running task, unless a record shows that its run has ended meanwhile on another worker.
    fn tell<'a>(
        &'a self,
        run: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>>;

    /// Stores in one step, whole or not at all, how a run has ended and what it commits: its results as by
    /// [`store`](Self::store), and its record under its key, for as long as a result and [`RECORD_LIFE`] at least. If
    /// the run has another record that this one does not replace, nothing is stored, and the answer is that commit.
    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>>;

    /// The commit of a run; none if it has not ended, or its record has expired.
    fn committed<'a>(
        &'a self,
        run: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>>;

    /// The stored state of a task, as Celery's JSON; none for an unknown task (PENDING).
    fn fetch<'a>(&'a self, task_id: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>>;

    /// The stored state of a task once it [is final](is_final); none if the deadline passes first.
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
    /// The run's key.
    pub run: &'a RunKey,
    /// The record of what it leaves to be done: [`Commit::record`].
    pub record: &'a [u8],
    /// Its own result and those of tasks that can't run any more.
    pub results: &'a [TaskMeta],
    /// True to replace an earlier commit of the run.
    pub replaces: bool,
}

/// True if a stored result says that the task won't run again: Celery's `READY_STATES`, with REJECTED and IGNORED.
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
