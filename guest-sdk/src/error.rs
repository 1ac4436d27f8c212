//! The ends of a task without a result.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Json;

/// The end of a task without a result: it fails, or asks for one of Celery's other ways out.
///
/// Any standard error becomes a failure by `?`; the name of its type is the exception's class
/// (`ParseIntError`; `IoError` for `std::io::Error`).
///
/// ```
/// use petiole::Error;
///
/// #[petiole::task]
/// fn parse(text: String) -> Result<u32, Error> {
///     if text.is_empty() {
///         return Err(Error::fail("ValueError", "the text is empty"));
///     }
///     Ok(text.parse()?)
/// }
/// # fn main() {
/// assert_eq!(parse("x".into()), Err(Error::fail("ParseIntError", "invalid digit found in string")));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, petiole::Type)]
#[petiole(name = "task-error")]
pub enum Error {
    /// The task has failed.
    Fail(Failure),
    /// The task is to be run again.
    Retry(Retry),
    /// The message is given back.
    Reject(Reject),
    /// No result is stored, and no callback called.
    Ignore,
}

/// A task's failure: Celery's exception, which `AsyncResult.get()` raises in Python.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
pub struct Failure {
    /// The exception's class name, for example `ValueError`.
    pub exc_type: String,
    /// The exception's arguments.
    pub exc_message: Vec<Json>,
    /// The Python module of the class; `petiole.exceptions` where none.
    pub exc_module: Option<String>,
}

/// Asks to be run again: Celery's `Task.retry`.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
pub struct Retry {
    /// The reason; becomes the task's failure when no retries are left.
    pub reason: Failure,
    /// The time to run again.
    pub at: RetryAt,
    /// Overrides the worker's limit on the number of retries.
    pub max_retries: Option<u32>,
}

/// The time at which a retry runs.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
pub enum RetryAt {
    /// After the worker's default delay.
    Default,
    /// This many milliseconds from now.
    CountdownMs(u64),
    /// At this time: milliseconds since the Unix epoch.
    EtaMs(u64),
}

/// Gives the message back: Celery's `Reject`.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
pub struct Reject {
    /// The reason, for the log.
    pub reason: String,
    /// Back to its queue; otherwise the message is dead-lettered.
    pub requeue: bool,
}

impl Error {
    /// Fails with an exception of this class, for example `ValueError`, and its message.
    pub fn fail(exc_type: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Fail(Failure::new(exc_type, message))
    }

    /// Asks to be run again, after the worker's default delay unless [`after`](Self::after) or
    /// [`at`](Self::at) follows. The task fails with the exception when no retries are left.
    pub fn retry(exc_type: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Retry(Retry {
            reason: Failure::new(exc_type, message),
            at: RetryAt::Default,
            max_retries: None,
        })
    }

    /// Gives the message back: to the end of its queue, or to be dead-lettered. One that has been given back
    /// to its queue 20 times is dead-lettered the next time.
    pub fn reject(reason: impl Into<String>, requeue: bool) -> Error {
        Error::Reject(Reject {
            reason: reason.into(),
            requeue,
        })
    }

    /// Ends the task with no result stored and no callback called.
    pub fn ignore() -> Error {
        Error::Ignore
    }

    /// Retries after this delay, in whole milliseconds. Changes a retry only.
    pub fn after(self, delay: Duration) -> Error {
        self.with_time(RetryAt::CountdownMs(millis(delay)))
    }

    /// Retries at this time. Changes a retry only.
    pub fn at(self, time: SystemTime) -> Error {
        self.with_time(RetryAt::EtaMs(millis(
            time.duration_since(UNIX_EPOCH).unwrap_or_default(),
        )))
    }

    /// Fails instead after this many retries, whatever the worker's own limit. Changes a retry only.
    pub fn max_retries(self, count: u32) -> Error {
        match self {
            Error::Retry(retry) => Error::Retry(Retry {
                max_retries: Some(count),
                ..retry
            }),
            Error::Fail(_) | Error::Reject(_) | Error::Ignore => self,
        }
    }

    fn with_time(self, at: RetryAt) -> Error {
        match self {
            Error::Retry(retry) => Error::Retry(Retry { at, ..retry }),
            Error::Fail(_) | Error::Reject(_) | Error::Ignore => self,
        }
    }
}

impl Failure {
    fn new(exc_type: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            exc_type: exc_type.into(),
            exc_message: vec![Json::from(message.into())],
            exc_module: None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// With the causes behind it, joined by `: `. (This is why `Error` is no standard error itself.)
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let message = causes.fold(error.to_string(), |message, cause| {
            format!("{message}: {cause}")
        });
        Error::fail(class_name(std::any::type_name::<E>()), message)
    }
}

/// An exception's class for the Rust type of this path: its last word, and where that is `Error` alone,
/// the module's name before it.
fn class_name(path: &str) -> String {
    let mut words = path.split('<').next().unwrap_or_default().rsplit("::");
    let name = words.next().unwrap_or_default();
    if name != "Error" {
        return name.to_owned();
    }
    let module = words.find(|word| *word != "error").unwrap_or_default();
    let capitals = module.split('_').flat_map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
    });
    capitals.chain(name.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Error, RetryAt, class_name};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_retry_says_when() {
        let at = |error: Error| match error {
            Error::Retry(retry) => Some((retry.at, retry.max_retries)),
            Error::Fail(_) | Error::Reject(_) | Error::Ignore => None,
        };
        let retry = || Error::retry("Busy", "try later");
        assert_eq!(at(retry()), Some((RetryAt::Default, None)));
        assert_eq!(
            at(retry().after(Duration::from_millis(1500)).max_retries(3)),
            Some((RetryAt::CountdownMs(1500), Some(3)))
        );
        assert_eq!(
            at(retry().at(UNIX_EPOCH + Duration::from_secs(2))),
            Some((RetryAt::EtaMs(2000), None))
        );
        assert_eq!(
            Error::fail("A", "b").after(Duration::ZERO).max_retries(1),
            Error::fail("A", "b")
        );
    }

    #[test]
    fn a_standard_error_becomes_a_failure() {
        let parse = |text: &str| -> Result<f64, Error> { Ok(text.parse()?) };
        assert_eq!(
            parse("x"),
            Err(Error::fail("ParseFloatError", "invalid float literal"))
        );
        assert_eq!(
            Error::from(std::io::Error::other("disk")),
            Error::fail("IoError", "disk")
        );
        for (path, class) in [
            ("serde_json::error::Error", "SerdeJsonError"),
            ("csv::Error", "CsvError"),
            ("a::Wrong<b::C>", "Wrong"),
            ("Error", "Error"),
        ] {
            assert_eq!(class_name(path), class);
        }
    }
}
