//! Python's `repr` of JSON values, for the headers `argsrepr` and `kwargsrepr`, which tools show.

use serde_json::{Map, Value};

use crate::json;

/// Celery's `argsrepr_maxsize` and `kwargsrepr_maxsize`, in characters.
const MAX_CHARS: usize = 1024;
/// Celery's `task_repr_maxlevels`.
const MAX_LEVELS: usize = 3;
/// Celery's mark where something was left out.
const ELLIPSIS: &str = "...";

/// Positional arguments, as a tuple.
pub(crate) fn args_repr(args: &[&Value]) -> String {
    let mut repr = Repr::default();
    repr.push("(");
    repr.list(args.iter().copied(), 1);
    repr.push(if args.len() == 1 { ",)" } else { ")" });
    repr.text
}

/// Keyword arguments, as a dict.
pub(crate) fn kwargs_repr(kwargs: &Map<String, Value>) -> String {
    let mut repr = Repr::default();
    repr.dict(kwargs, 0);
    repr.text
}

/// Text that stops growing at the limit.
#[derive(Default)]
struct Repr {
    text: String,
    chars: usize,
    full: bool,
}

impl Repr {
    fn push(&mut self, text: &str) {
        if self.full {
            return;
        }
        for char in text.chars() {
            if self.chars == MAX_CHARS {
                self.full = true;
                self.text.push_str(ELLIPSIS);
                return;
            }
            self.text.push(char);
            self.chars += 1;
        }
    }

    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::Null => self.push("None"),
            Value::Bool(true) => self.push("True"),
            Value::Bool(false) => self.push("False"),
            Value::Number(number) => self.push(&number.to_string()),
            Value::String(held) => match json::raw_of(held) {
                Some(raw) => self.push(raw),
                None => self.quoted(held),
            },
            Value::Array(_) if level >= MAX_LEVELS => self.push("[...]"),
            Value::Object(_) if level >= MAX_LEVELS => self.push("{...}"),
            Value::Array(values) => {
                self.push("[");
                self.list(values, level + 1);
                self.push("]");
            }
            Value::Object(map) => self.dict(map, level),
        }
    }

    fn list<'a>(&mut self, values: impl IntoIterator<Item = &'a Value>, level: usize) {
        for (index, value) in values.into_iter().enumerate() {
            if self.full {
                return;
            }
            if index > 0 {
                self.push(", ");
            }
            self.value(value, level);
        }
    }

    fn dict(&mut self, map: &Map<String, Value>, level: usize) {
        self.push("{");
        for (index, (key, value)) in map.iter().enumerate() {
            if self.full {
                return;
            }
            if index > 0 {
                self.push(", ");
            }
            match json::raw_of(key) {
                Some(raw) => self.push(raw),
                None => self.quoted(key),
            }
            self.push(": ");
            self.value(value, level + 1);
        }
        self.push("}");
    }

    /// Quotes as Celery's `saferepr` does: always single, with nothing but the quote escaped.
    fn quoted(&mut self, text: &str) {
        self.push("'");
        for (index, part) in text.split('\'').enumerate() {
            if index > 0 {
                self.push("\\'");
            }
            self.push(part);
        }
        self.push("'");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn args(value: Value) -> String {
        args_repr(&value.as_array().unwrap().iter().collect::<Vec<_>>())
    }

    #[test]
    fn writes_values_as_python_does() {
        assert_eq!(args(json!([])), "()");
        assert_eq!(args(json!([1])), "(1,)");
        assert_eq!(args(json!([1, 2.5, -3])), "(1, 2.5, -3)");
        assert_eq!(
            args(json!([true, false, null, "it's"])),
            r"(True, False, None, 'it\'s')"
        );
        assert_eq!(
            args(json!([[1, []], {"a": {"b": []}}])),
            "([1, []], {'a': {'b': [...]}})"
        );
        assert_eq!(kwargs_repr(&Map::new()), "{}");
        assert_eq!(
            kwargs_repr(json!({"x": 1, "y": "z"}).as_object().unwrap()),
            "{'x': 1, 'y': 'z'}"
        );
    }

    #[test]
    fn stops_at_celerys_limits() {
        assert_eq!(args(json!([[[[1]]]])), "([[[...]]],)");
        let long = args(json!(["é".repeat(5000), "never shown"]));
        assert_eq!(long.chars().count(), MAX_CHARS + ELLIPSIS.len());
        assert!(long.ends_with("é..."), "{long}");
    }
}
