//! JSON as Python writes and reads it, in and out of serde_json's [`Value`] with no value changed.
//!
//! Celery's JSON is Python's: it has integers of any size, `NaN`, `Infinity`, `-Infinity`, and strings with a surrogate
//! that is half of no pair. A part that a [`Value`] can't hold stands in one as a *marked* string, which begins with
//! U+10FFFF (a noncharacter, which no text meant for others has), and goes on with the value's own JSON text. Marked
//! are:
//! - integers past 64 bits, and `-0`, which would become a float
//! - numbers past the largest float: `1e999` is an infinity in Python
//! - `NaN`, `Infinity` and `-Infinity`
//! - strings and names with a lone surrogate
//! - strings and names that begin with U+10FFFF themselves, so that nothing else looks like a marked one
//!
//! [`parse`] marks, and what is written here has the text of a marked string in its place. Code that looks into a value
//! uses [`text`], [`float`] and [`integer`]; a marked string taken for text is one that nobody expects, and no harm.

mod read;
mod token;
mod write;

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde_json::Value;

pub(crate) use read::memory;
use token::{Number, is_exotic_number, is_exotic_string, number};
pub(crate) use write::write;
pub use write::{Text, size, to_writer};

/// First character of a marked string.
const MARK: char = '\u{10FFFF}';

/// Reads JSON as Python's `json.loads` does, nested up to 127 levels.
///
/// # Errors
/// If it is not JSON. The error's position counts in the text with the marks.
pub fn parse(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(&read::marked(text))
}

/// A string as it stands in values: any but those of [`parse`] come in by this.
pub fn string(text: impl Into<String>) -> Value {
    Value::String(held(text.into()))
}

/// The same of a name in an object.
pub fn held(text: String) -> String {
    match text.starts_with(MARK) {
        true => format!("{MARK}{}", Value::String(text)),
        false => text,
    }
}

/// The text of a string; none where the value is no string, or has a lone surrogate.
pub fn text(value: &Value) -> Option<Cow<'_, str>> {
    name(value.as_str()?)
}

/// The text of a string in a value, or of a name in an object; none where it has a lone surrogate, or is marked as
/// something else.
pub fn name(held: &str) -> Option<Cow<'_, str>> {
    match raw_of(held) {
        None => Some(Cow::Borrowed(held)),
        Some(raw) => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

/// The same of what Petiole itself names things by. A text that begins with U+10FFFF is none.
pub(crate) fn plain_text(value: &Value) -> Option<&str> {
    value.as_str().filter(|held| raw_of(held).is_none())
}

/// kombu's `{"__type__": ..., "__value__": ...}` for what Python's JSON has no form for (`kombu.utils.json`).
pub fn tagged(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    Some((
        plain_text(object.get("__type__")?)?,
        object.get("__value__")?,
    ))
}

/// The float nearest to a number. None where an integer is past the floats, as in Python.
pub fn float(value: &Value) -> Option<f64> {
    let Some(raw) = raw(value) else {
        return value.as_f64();
    };
    match number(raw.as_bytes()) {
        Some(Number::Named) if raw == "NaN" => Some(f64::NAN),
        Some(Number::Named) if raw == "Infinity" => Some(f64::INFINITY),
        Some(Number::Named) => Some(f64::NEG_INFINITY),
        Some(Number::Integer) => raw.parse().ok().filter(|float: &f64| float.is_finite()),
        Some(Number::Float) => raw.parse().ok(),
        None => None,
    }
}

/// An integer, where the type has it.
pub fn integer<T: TryFrom<i64> + TryFrom<u64>>(value: &Value) -> Option<T> {
    match (value.as_i64(), value.as_u64()) {
        (Some(integer), _) => T::try_from(integer).ok(),
        (None, Some(integer)) => T::try_from(integer).ok(),
        (None, None) if raw(value) == Some("-0") => T::try_from(0_i64).ok(),
        (None, None) => None,
    }
}

/// True for a number, of whatever size.
pub fn is_number(value: &Value) -> bool {
    value.is_number() || raw(value).is_some_and(|raw| number(raw.as_bytes()).is_some())
}

/// True for a number without a fraction or an exponent.
pub fn is_integer(value: &Value) -> bool {
    match raw(value) {
        Some(raw) => number(raw.as_bytes()) == Some(Number::Integer),
        None => value.is_i64() || value.is_u64(),
    }
}

/// A value that a reader of RFC 8259's JSON would not take: it is not JSON, or (sections 6 and 8.2) readers do not
/// agree on its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign<'a> {
    /// `NaN`, `Infinity` or `-Infinity`.
    NoNumber(&'a str),
    /// A number past the largest float.
    TooLarge(&'a str),
    /// A string or a name with a lone surrogate.
    Surrogate(&'a str),
}

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber(raw) => write!(f, "{raw}, which is no JSON (RFC 8259)"),
            Self::TooLarge(raw) => write!(f, "{}, which is past the largest f64", beginning(raw)),
            Self::Surrogate(raw) => {
                write!(f, "{}, which has a lone surrogate", beginning(raw))
            }
        }
    }
}

/// Bytes that are quoted of a value.
const QUOTED: usize = 100;

fn beginning(raw: &str) -> Cow<'_, str> {
    match raw.get(..raw.floor_char_boundary(QUOTED)) {
        Some(begin) if begin.len() < raw.len() => Cow::Owned(format!("{begin}...")),
        _ => Cow::Borrowed(raw),
    }
}

/// The first such part of a value.
pub fn foreign(value: &Value) -> Option<Foreign<'_>> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
        Value::String(held) => foreign_text(held),
        Value::Array(items) => items.iter().find_map(foreign),
        Value::Object(members) => members
            .iter()
            .find_map(|(name, value)| foreign_text(name).or_else(|| foreign(value))),
    }
}

fn foreign_text(held: &str) -> Option<Foreign<'_>> {
    let raw = raw_of(held)?;
    match number(raw.as_bytes()) {
        Some(Number::Named) => Some(Foreign::NoNumber(raw)),
        Some(_) => {
            let past = raw.parse::<f64>().is_ok_and(f64::is_infinite);
            past.then_some(Foreign::TooLarge(raw))
        }
        None => serde_json::from_str::<Value>(raw)
            .is_err()
            .then_some(Foreign::Surrogate(raw)),
    }
}

/// Names a value's kind, for messages that must not quote data of any length.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(held) => match (raw_of(held), foreign_text(held)) {
            (None, _) => "a string",
            (Some(_), Some(Foreign::Surrogate(_))) => "a string with a lone surrogate",
            (Some(raw), _) if raw.starts_with('"') => "a string that begins with U+10FFFF",
            (Some(_), _) => "a number",
        },
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The JSON text of a value that stands as a marked string.
pub(crate) fn raw(value: &Value) -> Option<&str> {
    raw_of(value.as_str()?)
}

/// The same of a string in a value, or a name in an object.
pub(crate) fn raw_of(held: &str) -> Option<&str> {
    let raw = held.strip_prefix(MARK)?;
    let token = raw.as_bytes();
    (is_exotic_number(token) || is_exotic_string(token)).then_some(raw)
}
