//! Outcomes of guests' ends.

pub(crate) mod broken;
pub(crate) mod returned;
mod task_error;
#[cfg(test)]
mod tests;

use petiole_celery::{Exception, Outcome};
use petiole_permits::Limit;
use serde_json::Value;

use crate::schema::json_texts::memory_within;

/// The Python module that Petiole's own exceptions name as theirs.
const EXCEPTIONS: &str = "petiole.exceptions";

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// The limit that ended it.
    pub(crate) limit: Option<Limit>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            limit: None,
        }
    }
}

impl Ended {
    /// Memory of its values, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let (values, other) = values(&self.outcome);
        other + values.iter().map(memory_within).sum::<usize>()
    }
}

/// A failure's arguments count as its result. With them: the bytes of a text beside.
fn values(outcome: &Outcome) -> (&[Value], usize) {
    match outcome {
        Outcome::Success(value) => (std::slice::from_ref(value), 0),
        Outcome::Failure { exception, .. } | Outcome::Retry { exception, .. } => {
            (&exception.exc_message, 0)
        }
        Outcome::Reject { reason, .. } => (&[], reason.len()),
        Outcome::Ignore => (&[], 0),
    }
}

fn exceeded(limit: Limit, message: String) -> Ended {
    Ended {
        outcome: failure(limit.exception(), message),
        limit: Some(limit),
    }
}

fn failure(exc_type: &str, message: String) -> Outcome {
    failed(exc_type.to_owned(), vec![message.into()])
}

fn failed(exc_type: String, args: Vec<Value>) -> Outcome {
    Outcome::Failure {
        exception: exception(exc_type, args),
        traceback: None,
    }
}

fn exception(exc_type: String, exc_message: Vec<Value>) -> Exception {
    Exception {
        exc_type,
        exc_message,
        exc_module: EXCEPTIONS.to_owned(),
    }
}
