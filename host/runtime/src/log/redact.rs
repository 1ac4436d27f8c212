//! Secrets, taken out of what the host shows of a task.

use std::borrow::Cow;

use petiole_celery::{Exception, Outcome};
use petiole_permits::Redactor;
use serde_json::{Map, Value};

use crate::granted::Granted;

/// The outcome without secrets in exceptions, tracebacks and reasons. The result is the task's own business.
pub(crate) fn redacted(outcome: Outcome, granted: &Granted) -> Outcome {
    if granted.secrets.is_empty() {
        return outcome;
    }
    let redactor = &Redactor::new(granted.secrets.iter().map(|(_, secret)| secret));
    match outcome {
        Outcome::Failure {
            exception,
            traceback,
        } => Outcome::Failure {
            exception: redacted_exception(exception, redactor),
            traceback: traceback.map(|text| redactor.redact(&text).into_owned()),
        },
        Outcome::Retry {
            exception,
            at,
            max_retries,
        } => Outcome::Retry {
            exception: redacted_exception(exception, redactor),
            at,
            max_retries,
        },
        Outcome::Reject { requeue, reason } => Outcome::Reject {
            requeue,
            reason: redactor.redact(&reason).into_owned(),
        },
        Outcome::Success(_) | Outcome::Ignore => outcome,
    }
}

fn redacted_exception(exception: Exception, redactor: &Redactor) -> Exception {
    let Exception {
        exc_type,
        exc_message,
        exc_module,
    } = exception;
    let args = exc_message.into_iter();
    Exception {
        exc_type: redactor.redact(&exc_type).into_owned(),
        exc_message: args.map(|arg| redacted_value(arg, redactor)).collect(),
        exc_module: redactor.redact(&exc_module).into_owned(),
    }
}

fn redacted_value(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => redactor.redact(&text).into_owned().into(),
        Value::Array(values) => values
            .into_iter()
            .map(|value| redacted_value(value, redactor))
            .collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let name = redactor.redact(&name).into_owned();
                (name, redacted_value(value, redactor))
            })
            .collect::<Map<_, _>>()
            .into(),
        // a secret that is a number is one in text
        Value::Number(number) => {
            let text = number.to_string();
            match redactor.redact(&text) {
                Cow::Borrowed(_) => number.into(),
                Cow::Owned(text) => text.into(),
            }
        }
        Value::Null | Value::Bool(_) => value,
    }
}
