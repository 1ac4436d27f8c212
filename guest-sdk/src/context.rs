//! The request that a task runs for, and the time it has left.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::host;

/// The request that a task runs for: Celery's `Task.request`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The task's id: the same each time the message is delivered and retried.
    pub id: String,
    /// The task's name, for example `my_app.tasks.run_task`.
    pub task: String,
    /// The number of retries so far; 0 the first time.
    pub retries: u32,
    /// The first task of the workflow; the task itself where there is no other.
    pub root_id: String,
    /// The task that sent this one.
    pub parent_id: Option<String>,
    /// The group that the task belongs to.
    pub group_id: Option<String>,
    /// The task's place in that group.
    pub group_index: Option<u32>,
    /// The producer's own message headers.
    pub headers: Vec<(String, Value)>,
    /// The time at which the task is ended.
    pub deadline: SystemTime,
    /// The time at which the task is asked to end, if it has a soft time limit.
    pub soft_deadline: Option<SystemTime>,
    /// The same for every delivery of this id and retry, and different for any other: for services that
    /// drop requests which they have seen.
    pub idempotency_key: String,
}

impl Request {
    /// The time left until the soft deadline, or the deadline where there is none; zero when it is over.
    pub fn remaining(&self) -> Duration {
        let end = self.soft_deadline.unwrap_or(self.deadline);
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// A header of the producer's own.
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

/// True once this task has passed a soft limit, of wall time or of CPU time. It should end soon: the hard limit
/// ends it wherever it is.
///
/// ```
/// # let rows: [u64; 3] = [1, 2, 3];
/// let mut sum = 0;
/// for row in rows {
///     if petiole::context::soft_limit_reached() {
///         break;
///     }
///     sum += row;
/// }
/// # assert_eq!(sum, 6);
/// ```
pub fn soft_limit_reached() -> bool {
    host::soft_limit_reached()
}

/// The request that this task runs for.
pub fn context() -> Request {
    host::request_of_task()
}
