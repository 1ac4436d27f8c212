use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::Exception;

/// The outcome of a task that was run. A guest that fails is an outcome, never an `Err`.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The task returned.
    Success(Value),
    /// The task returned `err`, trapped, or hit a limit.
    Failure {
        /// The exception that Python raises from `get()`.
        exception: Exception,
        /// The guest's stack, where there is one.
        traceback: Option<String>,
    },
    /// The task asks to be run again (Celery's `Task.retry`).
    Retry {
        /// The reason; becomes the failure when no retries are left.
        exception: Exception,
        /// The time to run again.
        at: RetryAt,
        /// Overrides [`RetrySettings::max_retries`].
        max_retries: Option<u32>,
    },
    /// The task rejects its message (Celery's `Reject`).
    Reject {
        /// Back to its queue; otherwise dead-lettered.
        requeue: bool,
        /// The reason the task gave.
        reason: String,
    },
    /// The task wants no result stored (Celery's `Ignore`).
    Ignore,
}

/// The time of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAt {
    /// After the task's own [`RetrySettings::default_retry_delay`].
    Default,
    /// After this long.
    Countdown(Duration),
    /// At that time.
    Eta(Timestamp),
}

/// Limits and default delay of the retries that a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Celery's `max_retries`, for a retry that names no number.
    pub max_retries: u32,
    /// The most that a retry may name.
    pub most_retries: u32,
    /// Celery's `default_retry_delay`, for a retry that names no time.
    pub default_retry_delay: Duration,
}

impl Outcome {
    /// A retry that has none left is the failure it names; every other outcome stays as it is.
    #[must_use]
    pub(crate) fn unless_exhausted(self, retries: u32, settings: RetrySettings) -> Self {
        let RetrySettings {
            max_retries,
            most_retries,
            ..
        } = settings;
        match self {
            Self::Retry {
                exception,
                max_retries: own,
                ..
            } if retries >= own.map_or(max_retries, |own| own.min(most_retries)) => Self::Failure {
                exception,
                traceback: None,
            },
            Self::Success(_)
            | Self::Failure { .. }
            | Self::Retry { .. }
            | Self::Reject { .. }
            | Self::Ignore => self,
        }
    }
}
