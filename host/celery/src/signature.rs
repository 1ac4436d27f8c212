use serde_json::{Map, Value};

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
    /// What is wrong with it, and where.
    pub reason: String,
}

impl SignatureError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

impl Signature {
    /// Reads a signature as it stands in messages. All fields but `task` may be missing or null.
    ///
    /// # Errors
    /// When the value is no object, or a field has another type than Celery's.
    pub fn from_json(value: &Value) -> Result<Self, SignatureError> {
        Self::from_value(value.clone())
    }

    /// The same, without a copy of what the value holds.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: Value) -> Result<Self, SignatureError> {
        let Value::Object(mut fields) = value else {
            return Err(SignatureError::new(format!(
                "{} where an object was expected",
                kind(&value)
            )));
        };
        let task = match fields.remove("task") {
            Some(Value::String(task)) if !task.is_empty() => task,
            _ => return Err(SignatureError::new("it has no `task`")),
        };
        let args = match fields.remove("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args,
            Some(other) => return Err(wrong(&task, "args", "an array", &other)),
        };
        let subtask_type = match fields.remove("subtask_type") {
            None | Some(Value::Null) => None,
            Some(Value::String(kind)) if kind.is_empty() => None,
            Some(Value::String(kind)) => Some(kind),
            Some(other) => return Err(wrong(&task, "subtask_type", "a string", &other)),
        };
        let immutable = match fields.remove("immutable") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(immutable)) => immutable,
            Some(other) => return Err(wrong(&task, "immutable", "a boolean", &other)),
        };
        Ok(Self {
            kwargs: object(&mut fields, &task, "kwargs")?,
            options: object(&mut fields, &task, "options")?,
            task,
            args,
            subtask_type,
            immutable,
        })
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

    /// Checks that the options of a plain task can be carried out, and its message sent, before anything relies
    /// on it.
    ///
    /// # Errors
    /// As [`compose`](crate::compose).
    pub fn check(&self) -> Result<(), SignatureError> {
        crate::compose::check(self)
    }

    /// Puts arguments before its own, unless it is immutable.
    pub(crate) fn prepend(&mut self, args: &[Value]) {
        if !self.immutable {
            self.args.splice(0..0, args.iter().cloned());
        }
    }

    /// Whether it stands for several messages. Python's `map`, `starmap` and `chunks` are plain tasks
    /// on the wire (`celery.map`, ...).
    pub(crate) fn is_workflow(&self) -> bool {
        !matches!(
            self.subtask_type.as_deref(),
            None | Some("xmap" | "xstarmap" | "chunks")
        )
    }

    /// The id that its options fix, where they do.
    pub fn task_id(&self) -> Option<&str> {
        self.options
            .get("task_id")
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty())
    }
}

fn object(
    fields: &mut Map<String, Value>,
    task: &str,
    name: &str,
) -> Result<Map<String, Value>, SignatureError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(other) => Err(wrong(task, name, "an object", &other)),
    }
}

fn wrong(task: &str, field: &str, expected: &str, found: &Value) -> SignatureError {
    SignatureError::new(format!(
        "`{field}` of {task:?} is {} where {expected} was expected",
        kind(found)
    ))
}

/// What a JSON value is, for messages that must not quote data of any length.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_fields_are_empty() {
        let signature = Signature::from_json(&json!({"task": "add", "args": null})).unwrap();
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
        assert_eq!(Signature::from_json(&value).unwrap().to_json(), value);
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
            assert_eq!(Signature::from_json(&value).unwrap_err().reason, reason);
        }
    }
}
