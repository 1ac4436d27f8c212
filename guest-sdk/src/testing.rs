//! A stand-in for the worker, so that tasks can be tested by an ordinary `cargo test`.
//!
//! ```
//! use petiole::Signature;
//! use petiole::testing::{request, with_context};
//!
//! #[petiole::task]
//! fn greet(name: String) -> Result<u32, petiole::Error> {
//!     petiole::send(Signature::new("shop.tasks.mail").arg(name))?;
//!     Ok(petiole::context().retries)
//! }
//!
//! # fn main() {
//! let mut request = request("shop.tasks.greet");
//! request.retries = 2;
//! let (result, seen) = with_context(request, || greet("Ada".into()));
//! assert_eq!(result, Ok(2));
//! assert_eq!(seen.sent, [Signature::new("shop.tasks.mail").arg("Ada")]);
//! # }
//! ```
//!
//! Outside of [`with_context`] a task sees the request `request("test")`, and what it sends, logs or
//! reports goes nowhere. Each thread has a stand-in of its own.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::log::Level;
use crate::{Request, Signature};

/// Everything that a task did besides returning its result.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// The tasks that it sent, whose ids were `sent-0`, `sent-1`, ...
    pub sent: Vec<Signature>,
    /// The states that it reported, with their meta.
    pub progress: Vec<(String, Value)>,
    /// The lines that it logged; not what it printed.
    pub log: Vec<(Level, String)>,
}

thread_local! {
    static WORKER: RefCell<Option<(Request, Seen)>> = const { RefCell::new(None) };
}

/// A first request for the task of this name: id `test`, five minutes to go. Change its fields as needed.
pub fn request(task: &str) -> Request {
    Request {
        id: "test".to_owned(),
        task: task.to_owned(),
        retries: 0,
        root_id: "test".to_owned(),
        parent_id: None,
        group_id: None,
        group_index: None,
        headers: Vec::new(),
        deadline: SystemTime::now() + Duration::from_secs(300),
        soft_deadline: None,
        idempotency_key: "test-0".to_owned(),
    }
}

/// Runs a task for this request, and returns what it did. Not to be nested.
pub fn with_context<T>(request: Request, task: impl FnOnce() -> T) -> (T, Seen) {
    WORKER.set(Some((request, Seen::default())));
    let result = task();
    let (_, seen) = WORKER
        .take()
        .unwrap_or_else(|| (self::request("test"), Seen::default()));
    (result, seen)
}

pub(crate) fn request_of_task() -> Request {
    WORKER.with_borrow(|worker| {
        worker
            .as_ref()
            .map_or_else(|| request("test"), |(request, _)| request.clone())
    })
}

/// True once the request's soft deadline has passed.
pub(crate) fn soft_limit_reached() -> bool {
    let soft = request_of_task().soft_deadline;
    soft.is_some_and(|soft| SystemTime::now() >= soft)
}

pub(crate) fn log(level: Level, message: &str) {
    see(|seen| seen.log.push((level, message.to_owned())));
}

/// Celery's final states, which only the worker sets.
const FINAL: [&str; 5] = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"];

pub(crate) fn update_state(state: &str, meta: &str) -> Result<(), String> {
    if FINAL.contains(&state) {
        return Err(format!("the state is {state}, which only the worker sets"));
    }
    let meta: Value = serde_json::from_str(meta).map_err(|error| error.to_string())?;
    see(|seen| seen.progress.push((state.to_owned(), meta)));
    Ok(())
}

pub(crate) fn send(signature: Signature) -> Result<String, String> {
    let index = WORKER.with_borrow(|worker| worker.as_ref().map_or(0, |(_, seen)| seen.sent.len()));
    see(|seen| seen.sent.push(signature));
    Ok(format!("sent-{index}"))
}

fn see(record: impl FnOnce(&mut Seen)) {
    WORKER.with_borrow_mut(|worker| {
        if let Some((_, seen)) = worker {
            record(seen);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{request, with_context};
    use crate::context::soft_limit_reached;
    use crate::log::{self, Level};
    use crate::{Signature, context, progress, send};
    use serde_json::json;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_task_sees_its_request_and_is_seen() {
        let (result, seen) = with_context(request("a.b"), || {
            log::warn("careful");
            let refused = progress("SUCCESS", &json!(null)).is_err();
            progress("PROGRESS", &json!({"done": 1})).map(|()| (context().task, refused))
        });
        assert_eq!(result, Ok(("a.b".to_owned(), true)));
        assert_eq!(seen.log, [(Level::Warn, "careful".to_owned())]);
        assert_eq!(seen.progress, [("PROGRESS".to_owned(), json!({"done": 1}))]);

        let (ids, seen) = with_context(request("a.b"), || {
            [send(Signature::new("x")), send(Signature::new("y"))]
        });
        assert_eq!(ids, [Ok("sent-0".to_owned()), Ok("sent-1".to_owned())]);
        assert_eq!(seen.sent, [Signature::new("x"), Signature::new("y")]);
    }

    #[test]
    fn a_soft_deadline_passes() {
        let mut late = request("a.b");
        late.soft_deadline = Some(SystemTime::now());
        assert!(with_context(late.clone(), soft_limit_reached).0);
        late.soft_deadline = Some(SystemTime::now() + Duration::from_secs(60));
        assert!(!with_context(late, soft_limit_reached).0);
        assert!(!with_context(request("a.b"), soft_limit_reached).0);
    }

    #[test]
    fn without_a_stand_in_a_task_still_runs() {
        log::info("nobody listens");
        assert_eq!(
            (context().id, send(Signature::new("x"))),
            ("test".to_owned(), Ok("sent-0".to_owned()))
        );
    }
}
