//! Why a JSON value does not fit a WIT type, or a message's memory.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

use petiole_celery::json::{self, Foreign};
use serde_json::Value;

use crate::schema::wit_type::{Name, WitType};

/// The most of a type or a value that an error quotes, in characters.
const QUOTED: usize = 100;

/// A departure of a JSON value from its WIT type, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// From the argument to the value, for example `.items[3].name`.
    path: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("expected {ty}, got {value}")]
    Expected { ty: String, value: String },
    #[error("expected JSON, got {value}")]
    Foreign { value: String },
    #[error("missing field {field}: {ty}")]
    Missing { field: String, ty: String },
    #[error("unknown field {field}; it has {known}")]
    Unknown { field: String, known: String },
    #[error("field {field} is given twice")]
    Twice { field: String },
    #[error("the values up to here count as {size} bytes: the limit is {limit}")]
    TooLarge { size: usize, limit: usize },
}

impl Mismatch {
    pub(crate) fn expected(ty: &WitType, value: &Value) -> Self {
        let range = ty.range().filter(|_| json::is_integer(value));
        let range = range.map(|range| format!(" ({} to {})", range.start(), range.end()));
        let value = match value.as_str().and_then(|_| json::foreign(value)) {
            Some(surrogate @ Foreign::Surrogate(_)) => surrogate.to_string(),
            _ => quoted(value),
        };
        Self::new(Problem::Expected {
            ty: shortened(ty.to_string()) + &range.unwrap_or_default(),
            value,
        })
    }

    /// `foreign`: what a parameter that takes any JSON does not take.
    pub(crate) fn foreign(foreign: Foreign<'_>) -> Self {
        Self::new(Problem::Foreign {
            value: foreign.to_string(),
        })
    }

    pub(crate) fn missing(name: &Name, ty: &WitType) -> Self {
        Self::new(Problem::Missing {
            field: name.snake.clone(),
            ty: shortened(ty.to_string()),
        })
    }

    pub(crate) fn unknown<'a>(field: &str, known: impl Iterator<Item = &'a Name>) -> Self {
        let known: Vec<&str> = known.map(|name| name.snake.as_str()).collect();
        Self::new(Problem::Unknown {
            field: quoted(&Value::from(field)),
            known: shortened(known.join(", ")),
        })
    }

    pub(crate) fn twice(name: &Name) -> Self {
        Self::new(Problem::Twice {
            field: name.snake.clone(),
        })
    }

    /// `size`: what the values of all arguments count as so far, in bytes.
    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        Self::new(Problem::TooLarge { size, limit })
    }

    /// Their size and its limit, in bytes, where it is that the values take too much memory.
    pub(crate) fn size_and_limit(&self) -> Option<(usize, usize)> {
        match self.problem {
            Problem::TooLarge { size, limit } => Some((size, limit)),
            _ => None,
        }
    }

    fn new(problem: Problem) -> Self {
        Self {
            path: String::new(),
            problem,
        }
    }

    pub(crate) fn in_field(mut self, name: &Name) -> Self {
        self.path = format!(".{}{}", name.snake, self.path);
        self
    }

    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.path = format!("[{index}]{}", self.path);
        self
    }
}

/// Reads on from the argument's name: `.items[3]: expected s64, got "two"`.
impl Display for Mismatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// The value as JSON, cut so that a large argument does not make a large error.
pub(crate) fn quoted(value: &Value) -> String {
    let mut out = Cut {
        bytes: Vec::new(),
        left: QUOTED * 4,
    };
    // an error only says that the writer is full
    let _ = json::to_writer(&mut out, value);
    shortened(String::from_utf8_lossy(&out.bytes).into_owned())
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(QUOTED) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Takes bytes up to a limit, then fails.
struct Cut {
    bytes: Vec<u8>,
    left: usize,
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.left);
        self.bytes.extend(bytes.iter().take(taken));
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
