use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::Refusal;
use crate::fields::Fields;
use crate::json::{kind, plain_text};

/// A task call that has not been sent yet: Celery's `Signature`, as it stands in messages
/// (<https://docs.celeryq.dev/en/stable/userguide/canvas.html#signatures>).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    /// The task's name.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Execution options: `task_id`, `queue`, `link`, `countdown`, ...
    pub options: Map<String, Value>,
    /// `chain`, `group`, `chord`, `map`, `starmap`, `chunks`, or none for a plain task.
    pub subtask_type: Option<String>,
    /// An immutable signature does not take its parent's result.
    pub immutable: bool,
}

/// A JSON value is not a signature, or its options can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature: {reason}")]
pub struct SignatureError {
    /// The fault in it, and its place.
    pub reason: String,
}

/// The longest reason, in bytes. It quotes names, which may be as long as a message, and goes into results and logs.
const MAX_REASON: usize = 1024;

impl SignatureError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAX_REASON {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            reason.push_str("...");
        }
        Self { reason }
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self::Malformed {
            reason: error.to_string(),
        }
    }
}

/// A message that is malformed for a reason as long as a signature's.
pub(crate) fn malformed(reason: String) -> Refusal {
    Refusal::malformed(SignatureError::new(reason).reason)
}

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// A signature as it stands in JSON: what it says, without a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignatureRef<'a> {
    pub(crate) task: &'a str,
    pub(crate) args: &'a [Value],
    pub(crate) kwargs: &'a Map<String, Value>,
    pub(crate) options: &'a Map<String, Value>,
    pub(crate) subtask_type: Option<&'a str>,
    pub(crate) immutable: bool,
}

impl<'a> SignatureRef<'a> {
    /// A group without tasks.
    pub(crate) fn group() -> Self {
        Self {
            task: "celery.group",
            args: &[],
            kwargs: &EMPTY,
            options: &EMPTY,
            subtask_type: Some("group"),
            immutable: false,
        }
    }

    /// As [`Signature::from_value`].
    pub(crate) fn from_json(value: &'a Value) -> Result<Self, SignatureError> {
        let Value::Object(fields) = value else {
            return Err(SignatureError::new(format!(
                "{} where an object was expected",
                kind(value)
            )));
        };
        let task = fields.get("task").and_then(plain_text);
        let Some(task) = task.filter(|task| !task.is_empty()) else {
            return Err(SignatureError::new("it has no `task`"));
        };
        let fields = Fields::of_signature(fields, task);
        let subtask_type = fields.read("subtask_type", "a string", plain_text)?;
        Ok(Self {
            task,
            args: fields.array("args")?.unwrap_or_default(),
            kwargs: fields.object("kwargs")?.unwrap_or(&EMPTY),
            options: fields.object("options")?.unwrap_or(&EMPTY),
            subtask_type: subtask_type.filter(|kind| !kind.is_empty()),
            immutable: fields.boolean("immutable")?.unwrap_or(false),
        })
    }

    /// True if it stands for several messages. Python's `map`, `starmap` and `chunks` are plain tasks on the wire
    /// (`celery.map`, ...).
    pub(crate) fn is_workflow(&self) -> bool {
        !matches!(
            self.subtask_type,
            None | Some("xmap" | "xstarmap" | "chunks")
        )
    }

    pub(crate) fn is_group(&self) -> bool {
        self.subtask_type == Some("group")
    }

    /// The signatures that an option holds: one, or a list of them.
    pub(crate) fn following(&self, option: &str) -> &'a [Value] {
        match self.options.get(option) {
            None | Some(Value::Null) => &[],
            Some(Value::Array(values)) => values,
            Some(value) => std::slice::from_ref(value),
        }
    }

    /// The id that its options fix, where they do.
    pub(crate) fn task_id(&self) -> Option<&'a str> {
        let id = self.options.get("task_id").and_then(plain_text);
        id.filter(|id| !id.is_empty())
    }
}

impl Signature {
    /// Reads a signature as it stands in messages. All fields but `task` may be missing or null.
    ///
    /// # Errors
    /// If the value is no object, or a field has another type than Celery's.
    pub fn from_value(mut value: Value) -> Result<Self, SignatureError> {
        let read = SignatureRef::from_json(&value)?;
        let task = read.task.to_owned();
        let subtask_type = read.subtask_type.map(str::to_owned);
        let immutable = read.immutable;
        let mut take = |name: &str| value.get_mut(name).map(Value::take);
        let args = match take("args") {
            Some(Value::Array(args)) => args,
            _ => Vec::new(),
        };
        let mut object = |name: &str| match take(name) {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        Ok(Self {
            task,
            args,
            kwargs: object("kwargs"),
            options: object("options"),
            subtask_type,
            immutable,
        })
    }

    pub(crate) fn view(&self) -> SignatureRef<'_> {
        SignatureRef {
            task: &self.task,
            args: &self.args,
            kwargs: &self.kwargs,
            options: &self.options,
            subtask_type: self.subtask_type.as_deref(),
            immutable: self.immutable,
        }
    }

    /// The form that stands in messages.
    pub fn to_json(&self) -> Value {
        self.clone().into_json()
    }

    /// The same, without a copy of what it holds.
    pub(crate) fn into_json(self) -> Value {
        let fields: [(&str, Value); 6] = [
            ("task", self.task.into()),
            ("args", self.args.into()),
            ("kwargs", self.kwargs.into()),
            ("options", self.options.into()),
            ("subtask_type", self.subtask_type.into()),
            ("immutable", self.immutable.into()),
        ];
        Value::from_iter(fields)
    }

    /// The id that its options fix, where they do.
    pub fn task_id(&self) -> Option<&str> {
        self.view().task_id()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_fields_are_empty() {
        let signature = Signature::from_value(json!({"task": "add", "args": null})).unwrap();
        assert_eq!(
            signature,
            Signature {
                task: "add".into(),
                ..Signature::default()
            }
        );
    }

    #[test]
    fn json_there_and_back_is_the_identity() {
        let value = json!({
            "task": "t.add", "args": [1, [2]], "kwargs": {"a": null}, "options": {"queue": "q"},
            "subtask_type": "chain", "immutable": true,
        });
        assert_eq!(
            Signature::from_value(value.clone()).unwrap().to_json(),
            value
        );
    }

    #[test]
    fn a_reason_quotes_so_much_of_a_name() {
        let value = json!({"task": "\u{1f980}".repeat(1_000_000), "args": 1});
        let reason = Signature::from_value(value).unwrap_err().reason;
        assert!(reason.len() <= MAX_REASON + 3, "{}", reason.len());
        assert!(reason.starts_with("`args` of \"\u{1f980}") && reason.ends_with("..."));
    }

    #[test]
    fn what_is_no_signature_is_refused_with_the_field() {
        for (value, reason) in [
            (json!([]), "an array where an object was expected"),
            (json!({}), "it has no `task`"),
            (json!({"task": ""}), "it has no `task`"),
            (json!({"task": 1}), "it has no `task`"),
            (
                json!({"task": "t", "args": {}}),
                "`args` of \"t\" is an object where an array was expected",
            ),
            (
                json!({"task": "t", "kwargs": []}),
                "`kwargs` of \"t\" is an array where an object was expected",
            ),
            (
                json!({"task": "t", "options": 1}),
                "`options` of \"t\" is a number where an object was expected",
            ),
            (
                json!({"task": "t", "immutable": "no"}),
                "`immutable` of \"t\" is a string where a boolean was expected",
            ),
            (
                json!({"task": "t", "subtask_type": true}),
                "`subtask_type` of \"t\" is a boolean where a string was expected",
            ),
        ] {
            assert_eq!(Signature::from_value(value).unwrap_err().reason, reason);
        }
    }
}
