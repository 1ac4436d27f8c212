//! Outcomes of guests that ended before they returned: by a trap, by their exit, or at a limit.

use std::time::Duration;

use petiole_celery::{Exception, Outcome};
use petiole_permits::{Limit, Limits};
use serde_json::{Number, Value};
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::limits::exceeded::LimitExceeded;
use crate::log::backtrace::backtrace;
use crate::log::last_words::LastWords;
use crate::outcome::{Ended, exceeded, failed, failure};
use crate::schema::json_texts::{beyond_budget, lift_fuel};

/// The most of a guest's stack and last words that a failure quotes, in bytes: function names may be of any length.
const MAX_TRACEBACK: usize = 16 * 1024;

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

/// The end of a guest before it returned.
pub(crate) struct Broken<'a> {
    pub(crate) error: &'a wasmtime::Error,
    /// The limit that it was denied memory for, and has had none since: most programs then end themselves.
    pub(crate) denied: Option<LimitExceeded>,
    /// It had as many component-model handles as it may.
    pub(crate) handles_full: bool,
    /// Its own words about it.
    pub(crate) words: Option<LastWords>,
    pub(crate) limits: &'a Limits,
    /// The most that a result may take of this process's memory, in bytes.
    pub(crate) most: usize,
}

impl Broken<'_> {
    pub(crate) fn ended(&self) -> Ended {
        let mut ended = match self.limit() {
            Some(hit) if hit.limit == Limit::Time => out_of_time(hit.allowed),
            Some(hit) => exceeded(hit.limit, self.message(hit)),
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

    /// The guest's last words, and its stack.
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
    fn message(&self, hit: LimitExceeded) -> String {
        let error = self.error;
        match (
            error.downcast_ref::<I32Exit>(),
            error.downcast_ref::<Trap>(),
        ) {
            _ if self.denied != Some(hit) => hit.to_string(),
            (Some(I32Exit(status)), _) => format!("{hit}; then it exited with {status}"),
            (_, Some(trap)) => format!("{hit}; then: {}", message_of(*trap)),
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
            (_, Some(trap)) => failure("WasmTrap", message_of(*trap)),
            (None, None) => failure("WasmTrap", error.root_cause().to_string()),
        }
    }
}

/// Ends of programs that have no memory: they give up, or use what they have not got.
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

fn message_of(trap: Trap) -> String {
    let message = trap.to_string();
    match message.strip_prefix("wasm trap: ") {
        Some(message) => message.to_owned(),
        None => message,
    }
}
