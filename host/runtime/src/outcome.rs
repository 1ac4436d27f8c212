//! What a guest's end means: result, `err`, trap or limit to an outcome.

use std::time::Duration;

use petiole_celery::{Exception, Outcome, json};
use petiole_permits::{Limit, Limits};
use serde_json::{Number, Value};
use wasmtime::component::{ResourceTableError, Val};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::limits::LimitExceeded;
use crate::log::backtrace::backtrace;
use crate::log::last_words::LastWords;
use crate::schema::json_texts::{
    JsonTexts, MAX_DEPTH, beyond_budget, is_too_deep, lift_fuel, memory_within,
};
use crate::schema::task_error::{is_task_error, task_error};
use crate::schema::to_json::{ToJsonError, payload, to_json};
use crate::schema::wit_type::WitType;

/// The Python module that Petiole's own exceptions are said to be of.
pub(crate) const EXCEPTIONS: &str = "petiole.exceptions";

/// How much of a guest's stack and last words a failure quotes, in bytes: function names may be of any length.
const MAX_TRACEBACK: usize = 16 * 1024;

/// The length of an exception's class and of its module, in bytes: log lines and headers hold them whole.
const MAX_EXCEPTION_NAME: usize = 255;

/// What became of a call.
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
    /// What its values take, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let (values, other) = values(&self.outcome);
        other + values.iter().map(memory_within).sum::<usize>()
    }
}

/// What the function returned. `texts`: of the result, with the limit of its size as JSON.
pub(crate) fn returned(ty: Option<&WitType>, val: Option<Val>, mut texts: JsonTexts) -> Ended {
    let limit = texts.values.limit();
    let texts = &mut texts;
    let outcome = match (ty, val) {
        (Some(WitType::Result(ok, _)), Some(Val::Result(Ok(val)))) => {
            payload(ok.as_deref(), val, texts).map(Outcome::Success)
        }
        (Some(WitType::Result(_, err)), Some(Val::Result(Err(val)))) => {
            returned_err(err.as_deref(), val, texts)
        }
        (Some(ty), Some(val)) => to_json(ty, val, texts).map(Outcome::Success),
        _ => Ok(Outcome::Success(Value::Null)),
    };
    match outcome {
        Ok(outcome) => bounded(outcome, limit),
        Err(error @ ToJsonError::TooLarge { .. }) => {
            let message = texts.values.beyond_budget();
            exceeded(Limit::Result, message.unwrap_or_else(|| error.to_string()))
        }
        Err(error) => failure("InvalidResult", error.to_string()).into(),
    }
}

fn returned_err(
    ty: Option<&WitType>,
    val: Option<Box<Val>>,
    texts: &mut JsonTexts,
) -> Result<Outcome, ToJsonError> {
    let (Some(ty), Some(val)) = (ty, val) else {
        return Ok(failed("TaskError".to_owned(), Vec::new()));
    };
    Ok(match (ty, *val) {
        (ty, val) if is_task_error(ty) => task_error(to_json(ty, val, texts)?),
        (WitType::Enum(_), Val::Enum(name)) => failed(upper_camel(&name), Vec::new()),
        (WitType::Variant(cases), Val::Variant(name, val)) => {
            let ty = cases.get(&name).and_then(|case| case.ty.as_ref());
            let args = match val {
                Some(val) => vec![payload(ty, Some(val), texts)?],
                None => Vec::new(),
            };
            failed(upper_camel(&name), args)
        }
        (ty, val) => failed("TaskError".to_owned(), vec![to_json(ty, val, texts)?]),
    })
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

fn bounded(outcome: Outcome, limit: usize) -> Ended {
    if let Outcome::Failure { exception, .. } | Outcome::Retry { exception, .. } = &outcome
        && let Some(message) = overlong(exception)
    {
        return failure("InvalidResult", message).into();
    }
    let (values, other) = values(&outcome);
    if values.iter().any(is_too_deep) {
        let message = format!("the result has more than {MAX_DEPTH} levels of arrays and objects");
        return failure("InvalidResult", message).into();
    }
    let size = other + values.iter().map(json::size).sum::<usize>();
    if size <= limit {
        return outcome.into();
    }
    let message = format!("the result is {size} bytes of JSON: the limit is {limit}");
    exceeded(Limit::Result, message)
}

/// What is said of a name that is too long.
fn overlong(exception: &Exception) -> Option<String> {
    [
        ("class", &exception.exc_type),
        ("module", &exception.exc_module),
    ]
    .into_iter()
    .find(|(_, name)| name.len() > MAX_EXCEPTION_NAME)
    .map(|(what, name)| {
        let size = name.len();
        format!(
            "the name of the exception's {what} is {size} bytes: the limit is {MAX_EXCEPTION_NAME}"
        )
    })
}

fn exceeded(limit: Limit, message: String) -> Ended {
    Ended {
        outcome: failure(limit.exception(), message),
        limit: Some(limit),
    }
}

/// Celery's own exception for a hard time limit. `limit`: in microseconds.
fn out_of_time(limit: u64) -> Ended {
    let limit = Duration::from_micros(limit);
    let seconds = match limit.subsec_nanos() {
        0 => Some(Number::from(limit.as_secs())),
        _ => Number::from_f64(limit.as_secs_f64()),
    };
    Ended {
        outcome: Outcome::Failure {
            exception: Exception {
                exc_type: Limit::Time.exception().to_owned(),
                exc_message: seconds.map(Value::Number).into_iter().collect(),
                exc_module: "billiard.exceptions".to_owned(),
            },
            traceback: None,
        },
        limit: Some(Limit::Time),
    }
}

/// A result takes more host memory to read than its limit leaves room for: however it is written as JSON, it
/// would be larger than the limit.
#[derive(Debug, thiserror::Error)]
#[error("the result is too large to be read")]
pub(crate) struct ResultUnreadable;

impl ResultUnreadable {
    /// `error`, or what it stands for. wasmtime's error for what is too large has a private type. But it is not
    /// from within the guest, so has no stack, and all other errors that reading a value may have are of
    /// these types.
    pub(crate) fn or(error: wasmtime::Error) -> wasmtime::Error {
        let other = error.is::<WasmBacktrace>()
            || error.is::<Trap>()
            || error.is::<LimitExceeded>()
            || error.is::<I32Exit>()
            || error.is::<String>()
            || error.is::<&'static str>()
            || error.is::<std::str::Utf8Error>()
            || error.is::<std::char::DecodeUtf16Error>()
            || error.is::<std::char::CharTryFromError>()
            || error.is::<wasmtime::OutOfMemory>();
        if other { error } else { Self.into() }
    }
}

/// What ended a guest before it returned.
pub(crate) struct Broken<'a> {
    pub(crate) error: &'a wasmtime::Error,
    /// The limit that it was denied memory for, and has had none since: most programs then end themselves.
    pub(crate) denied: Option<LimitExceeded>,
    /// Whether it had as many component-model handles as it may.
    pub(crate) handles_full: bool,
    /// What it wrote of it.
    pub(crate) words: Option<LastWords>,
    pub(crate) limits: &'a Limits,
    /// What a result may take of this process's memory, in bytes.
    pub(crate) most: usize,
}

impl Broken<'_> {
    pub(crate) fn ended(&self) -> Ended {
        let mut ended = match self.limit() {
            Some(hit) if hit.limit == Limit::Time => out_of_time(hit.allowed),
            Some(hit) => exceeded(hit.limit, self.told(hit)),
            None if self.error.is::<ResultUnreadable>() => {
                exceeded(Limit::Result, self.unreadable())
            }
            None => self.crashed().into(),
        };
        if let Outcome::Failure { traceback, .. } = &mut ended.outcome {
            *traceback = self.traceback();
        }
        ended
    }

    fn unreadable(&self) -> String {
        let limit = self.limits.result;
        if self.most < lift_fuel(limit) {
            return beyond_budget(self.most);
        }
        format!("the result is too large to be read: the limit is {limit} bytes of JSON")
    }

    /// What the guest wrote of its end, and its stack.
    fn traceback(&self) -> Option<String> {
        let words = self.words.as_ref().map(|words| words.text.as_str());
        let left = MAX_TRACEBACK.saturating_sub(words.map_or(0, str::len));
        let stack = self.error.downcast_ref();
        match (words, stack.map(|stack| backtrace(stack, left))) {
            (Some(words), Some(stack)) => Some(format!("{words}\n{stack}")),
            (words, stack) => stack.or_else(|| words.map(str::to_owned)),
        }
    }

    /// The limit, and how the guest ended of it.
    fn told(&self, hit: LimitExceeded) -> String {
        let error = self.error;
        match (
            error.downcast_ref::<I32Exit>(),
            error.downcast_ref::<Trap>(),
        ) {
            _ if self.denied != Some(hit) => hit.to_string(),
            (Some(I32Exit(status)), _) => format!("{hit}; then it exited with {status}"),
            (_, Some(trap)) => format!("{hit}; then: {}", said(*trap)),
            (None, None) => hit.to_string(),
        }
    }

    fn limit(&self) -> Option<LimitExceeded> {
        let Self { error, limits, .. } = self;
        let one_more = |limit, allowed: usize| {
            Some(LimitExceeded::new(
                limit,
                allowed,
                allowed.saturating_add(1),
            ))
        };
        if let Some(exceeded) = error.downcast_ref::<LimitExceeded>() {
            return Some(*exceeded);
        }
        if error.is::<ResultUnreadable>() {
            return None;
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return one_more(Limit::Handles, limits.handles);
        }
        match (
            error.downcast_ref::<Trap>(),
            error.downcast_ref::<I32Exit>(),
        ) {
            (Some(Trap::StackOverflow), _) => one_more(Limit::Stack, 0),
            (_, Some(I32Exit(0))) => None,
            (Some(trap), _) => self.denied.filter(|_| follows_denial(*trap)),
            (_, Some(_)) => self.denied,
            (None, None) if self.denied.is_some() => self.denied,
            (None, None) if self.handles_full => one_more(Limit::Handles, limits.handles),
            (None, None) => None,
        }
    }

    fn crashed(&self) -> Outcome {
        let error = self.error;
        match (
            error.downcast_ref::<I32Exit>(),
            error.downcast_ref::<Trap>(),
        ) {
            (Some(I32Exit(status)), _) => failed("GuestExit".to_owned(), vec![(*status).into()]),
            (_, Some(Trap::UnreachableCodeReached)) if let Some(words) = &self.words => {
                failure("Panic", words.message.clone())
            }
            (_, Some(trap)) => failure("WasmTrap", said(*trap)),
            (None, None) => failure("WasmTrap", error.root_cause().to_string()),
        }
    }
}

/// How programs end that have no memory: they give up, or use what they have not got.
fn follows_denial(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::UnreachableCodeReached
            | Trap::MemoryOutOfBounds
            | Trap::TableOutOfBounds
            | Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
    )
}

fn said(trap: Trap) -> String {
    let message = trap.to_string();
    match message.strip_prefix("wasm trap: ") {
        Some(message) => message.to_owned(),
        None => message,
    }
}

pub(crate) fn failure(exc_type: &str, message: String) -> Outcome {
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
