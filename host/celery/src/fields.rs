//! Fields of a JSON object, read by name, with errors that say which one has another type than was expected.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::json::kind;
use crate::{Refusal, SignatureError};

/// An object's fields; null counts as missing.
pub(crate) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    /// The task whose signature it is; none for the headers of a message.
    task: Option<&'a str>,
}

/// Reason why a field can't be read.
#[derive(Debug)]
pub(crate) struct Mistyped(String);

impl Mistyped {
    pub(crate) fn new(field: impl Display, expected: &str, found: impl Display) -> Self {
        Self(format!("{field} is {found} where {expected} was expected"))
    }
}

impl From<Mistyped> for Refusal {
    fn from(Mistyped(reason): Mistyped) -> Self {
        Self::malformed(reason)
    }
}

impl From<Mistyped> for SignatureError {
    fn from(Mistyped(reason): Mistyped) -> Self {
        Self::new(reason)
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn of_headers(fields: &'a Map<String, Value>) -> Self {
        Self { fields, task: None }
    }

    pub(crate) fn of_signature(fields: &'a Map<String, Value>, task: &'a str) -> Self {
        let task = Some(task);
        Self { fields, task }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// The value that `read` makes of a field, where it is set.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Mistyped> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.mistyped(name, expected, kind(value))),
        }
    }

    fn mistyped(&self, name: &str, expected: &str, found: &str) -> Mistyped {
        match self.task {
            None => Mistyped::new(format_args!("header `{name}`"), expected, found),
            Some(task) => Mistyped::new(format_args!("`{name}` of {task:?}"), expected, found),
        }
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a [Value]>, Mistyped> {
        self.read(name, "an array", |value| {
            value.as_array().map(Vec::as_slice)
        })
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Mistyped> {
        self.read(name, "an object", Value::as_object)
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Mistyped> {
        self.read(name, "a boolean", Value::as_bool)
    }
}
