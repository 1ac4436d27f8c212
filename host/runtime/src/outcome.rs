//! What a guest's end means: result, `err`, trap or limit to an outcome.

use std::time::Duration;

use petiole_celery::{Exception, Outcome};
use serde_json::{Number, Value};
use wasmtime::component::Val;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::call::{ExportGone, HostFault};
use crate::limiter::LimitHit;
use crate::task_error::{is_task_error, task_error};
use crate::to_json::{ToJsonError, payload, to_json};
use crate::wit_type::{Case, WitType};

/// The Python module that Petiole's own exceptions are said to be of.
pub(crate) const EXCEPTIONS: &str = "petiole.exceptions";

/// How much of a guest's stack a failure quotes, in bytes: function names may be of any length.
const MAX_TRACEBACK: usize = 16 * 1024;

/// What the function returned. `limit`: the result's size as JSON, in bytes.
pub(crate) fn returned(ty: Option<&WitType>, val: Option<Val>, limit: usize) -> Outcome {
    let outcome = match (ty, val) {
        (Some(WitType::Result(ok, _)), Some(Val::Result(Ok(val)))) => {
            payload(ok.as_deref(), val).map(Outcome::Success)
        }
        (Some(WitType::Result(_, err)), Some(Val::Result(Err(val)))) => {
            returned_err(err.as_deref(), val)
        }
        (Some(ty), Some(val)) => to_json(ty, val).map(Outcome::Success),
        _ => Ok(Outcome::Success(Value::Null)),
    };
    outcome.map_or_else(
        |error| failure("InvalidResult", error.to_string()),
        |outcome| bounded(outcome, limit),
    )
}

fn returned_err(ty: Option<&WitType>, val: Option<Box<Val>>) -> Result<Outcome, ToJsonError> {
    let (Some(ty), Some(val)) = (ty, val) else {
        return Ok(failed("TaskError".to_owned(), Vec::new()));
    };
    Ok(match (ty, *val) {
        (ty, val) if is_task_error(ty) => task_error(to_json(ty, val)?),
        (WitType::Enum(_), Val::Enum(name)) => failed(upper_camel(&name), Vec::new()),
        (WitType::Variant(cases), Val::Variant(name, val)) => {
            let ty = cases
                .iter()
                .find(|case| case.name.kebab == name)
                .and_then(|case: &Case| case.ty.as_ref());
            let args = match val {
                Some(val) => vec![payload(ty, Some(val))?],
                None => Vec::new(),
            };
            failed(upper_camel(&name), args)
        }
        (ty, val) => failed("TaskError".to_owned(), vec![to_json(ty, val)?]),
    })
}

/// A failure's arguments count as its result.
fn bounded(outcome: Outcome, limit: usize) -> Outcome {
    let size = match &outcome {
        Outcome::Success(value) => json_size(value),
        Outcome::Failure { exception, .. } | Outcome::Retry { exception, .. } => {
            exception.exc_message.iter().map(json_size).sum()
        }
        Outcome::Reject { reason, .. } => reason.len(),
        Outcome::Ignore => 0,
    };
    if size <= limit {
        return outcome;
    }
    failure(
        "ResultTooLarge",
        format!("the result is {size} bytes of JSON: the limit is {limit}"),
    )
}

fn json_size(value: &Value) -> usize {
    let mut count = Count(0);
    // counting does not fail, and every Value is JSON
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Celery's own exception for a hard time limit.
pub(crate) fn out_of_time(limit: Duration) -> Outcome {
    let seconds = match limit.subsec_nanos() {
        0 => Some(Number::from(limit.as_secs())),
        _ => Number::from_f64(limit.as_secs_f64()),
    };
    Outcome::Failure {
        exception: Exception {
            exc_type: "TimeLimitExceeded".to_owned(),
            exc_message: seconds.map(Value::Number).into_iter().collect(),
            exc_module: "billiard.exceptions".to_owned(),
        },
        traceback: None,
    }
}

/// What ended the guest before it returned. `hit`: the last limit that it was denied memory for.
///
/// # Errors
/// What is not the guest's doing.
pub(crate) fn broke_off(
    error: &wasmtime::Error,
    hit: Option<LimitHit>,
) -> Result<Outcome, HostFault> {
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(HostFault::PoolExhausted {
            reason: error.root_cause().to_string(),
        });
    }
    if error.is::<ExportGone>() || error.is::<std::io::Error>() {
        return Err(HostFault::Internal {
            reason: format!("{error:#}"),
        });
    }
    let (exc_type, args) = if let Some(I32Exit(status)) = error.downcast_ref() {
        ("GuestExit", Value::from(*status))
    } else if let Some(hit) = hit {
        ("MemoryLimitExceeded", hit.to_string().into())
    } else {
        match error.downcast_ref::<Trap>() {
            Some(trap @ Trap::StackOverflow) => ("StackOverflow", trap_message(*trap)),
            Some(trap) => ("WasmTrap", trap_message(*trap)),
            None => ("WasmTrap", error.root_cause().to_string().into()),
        }
    };
    Ok(Outcome::Failure {
        exception: exception(exc_type.to_owned(), vec![args]),
        traceback: error.downcast_ref::<WasmBacktrace>().map(traceback),
    })
}

fn trap_message(trap: Trap) -> Value {
    let message = trap.to_string();
    message
        .strip_prefix("wasm trap: ")
        .unwrap_or(&message)
        .into()
}

fn traceback(backtrace: &WasmBacktrace) -> String {
    let mut text = backtrace.to_string();
    text.truncate(text.floor_char_boundary(MAX_TRACEBACK));
    text
}

pub(crate) fn failure(exc_type: &str, message: String) -> Outcome {
    failed(exc_type.to_owned(), vec![message.into()])
}

pub(crate) fn failed(exc_type: String, args: Vec<Value>) -> Outcome {
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

/// `not-found` as a Python class: `NotFound`.
fn upper_camel(kebab: &str) -> String {
    kebab
        .split('-')
        .flat_map(|word| {
            let mut chars = word.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(chars)
        })
        .collect()
}
