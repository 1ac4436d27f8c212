//! Celery's four ways out, which the variant `task-error` asks for.

use std::time::Duration;

use jiff::Timestamp;
use petiole_celery::{Exception, Outcome, RetryAt};
use serde::Deserialize;
use serde_json::Value;

use crate::outcome::{EXCEPTIONS, failure};

/// The variant's JSON form, which is serde's for an enum.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TaskError {
    Fail(Failure),
    Retry {
        reason: Failure,
        at: At,
        max_retries: Option<u32>,
    },
    Reject {
        reason: String,
        requeue: bool,
    },
    Ignore,
}

#[derive(Deserialize)]
struct Failure {
    exc_type: String,
    exc_message: Vec<Value>,
    exc_module: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Default,
    CountdownMs(u64),
    EtaMs(u64),
}

/// The outcome that a `task-error`, in its JSON form, asks for.
pub(crate) fn task_error(value: Value) -> Outcome {
    match serde_json::from_value(value) {
        Ok(TaskError::Fail(reason)) => Outcome::Failure {
            exception: reason.into(),
            traceback: None,
        },
        Ok(TaskError::Retry {
            reason,
            at,
            max_retries,
        }) => match at.try_into() {
            Ok(at) => Outcome::Retry {
                exception: reason.into(),
                at,
                max_retries,
            },
            Err(BadEta(ms)) => failure(
                "InvalidRetry",
                format!("eta-ms {ms} is past the year 9999: give milliseconds since 1970"),
            ),
        },
        Ok(TaskError::Reject { reason, requeue }) => Outcome::Reject { requeue, reason },
        Ok(TaskError::Ignore) => Outcome::Ignore,
        // can't be: the shape was checked
        Err(error) => failure("TaskError", error.to_string()),
    }
}

/// Classes that Python, Celery, asyncio and gevent derive from `BaseException` alone, so that what reads a result and
/// catches `Exception` would end. A task may use their names, not them.
const ENDS_ITS_READER: [&str; 8] = [
    "BaseException",
    "CancelledError",
    "GeneratorExit",
    "GreenletExit",
    "KeyboardInterrupt",
    "SystemExit",
    "WorkerShutdown",
    "WorkerTerminate",
];

impl From<Failure> for Exception {
    fn from(failure: Failure) -> Self {
        let class = failure.exc_type.rsplit('.').next().unwrap_or_default();
        let ends_its_reader = ENDS_ITS_READER.contains(&class);
        Self {
            exc_type: failure.exc_type,
            exc_message: failure.exc_message,
            exc_module: failure
                .exc_module
                .filter(|_| !ends_its_reader)
                .unwrap_or_else(|| EXCEPTIONS.to_owned()),
        }
    }
}

struct BadEta(u64);

impl TryFrom<At> for RetryAt {
    type Error = BadEta;

    fn try_from(at: At) -> Result<Self, BadEta> {
        Ok(match at {
            At::Default => Self::Default,
            At::CountdownMs(ms) => Self::Countdown(Duration::from_millis(ms)),
            At::EtaMs(ms) => {
                let time = i64::try_from(ms)
                    .ok()
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok());
                Self::Eta(time.ok_or(BadEta(ms))?)
            }
        })
    }
}
