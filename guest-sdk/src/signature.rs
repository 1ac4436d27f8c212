//! Calls of other tasks.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A call of a task: Celery's signature.
///
/// ```
/// use petiole::Signature;
///
/// let mail = Signature::new("shop.tasks.mail").arg("ada@example.org").kwarg("copies", 2).queue("python");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    pub(crate) task: String,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) options: Map<String, Value>,
    pub(crate) immutable: bool,
    /// The error of the first argument without a JSON form: returned when the signature is sent.
    pub(crate) problem: Option<String>,
}

impl Signature {
    /// A call of the task of this name, with no arguments yet.
    pub fn new(task: impl Into<String>) -> Signature {
        Signature {
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            immutable: false,
            problem: None,
        }
    }

    /// Adds a positional argument: anything that has a JSON form.
    pub fn arg(mut self, value: impl Serialize) -> Signature {
        let value = self.value(value);
        self.args.push(value);
        self
    }

    /// Adds a keyword argument: anything that has a JSON form.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Signature {
        let value = self.value(value);
        self.kwargs.insert(name.into(), value);
        self
    }

    /// Sends it to this queue; otherwise the worker's routes choose one.
    pub fn queue(self, queue: impl Into<String>) -> Signature {
        self.option("queue", queue.into())
    }

    /// Runs it no sooner than this long after it was sent.
    pub fn countdown(self, delay: Duration) -> Signature {
        self.option("countdown", delay.as_secs_f64())
    }

    /// Calls this task with its result when it has succeeded.
    pub fn link(self, callback: Signature) -> Signature {
        self.push_option("link", callback)
    }

    /// Calls this task with its id when it has failed.
    pub fn link_error(self, errback: Signature) -> Signature {
        self.push_option("link_error", errback)
    }

    /// Does not take the result of the task that it is linked to: Celery's `.si()`.
    pub fn immutable(mut self) -> Signature {
        self.immutable = true;
        self
    }

    /// Sets one of the execution options that a task may set: `priority`, `expires`, `headers`, ... docs/celery.md
    /// lists them. With another one, the task that sends it fails. The worker chooses the `task_id`.
    pub fn option(mut self, name: impl Into<String>, value: impl Serialize) -> Signature {
        let value = self.value(value);
        self.options.insert(name.into(), value);
        self
    }

    fn push_option(mut self, name: &str, signature: Signature) -> Signature {
        self.problem = self.problem.take().or_else(|| signature.problem.clone());
        let mut linked = match self.options.remove(name) {
            Some(Value::Array(linked)) => linked,
            _ => Vec::new(),
        };
        linked.push(signature.into_json());
        self.option(name, linked)
    }

    fn value(&mut self, value: impl Serialize) -> Value {
        serde_json::to_value(value).unwrap_or_else(|error| {
            self.problem.get_or_insert_with(|| error.to_string());
            Value::Null
        })
    }

    /// As Celery writes a signature into a message.
    fn into_json(self) -> Value {
        json!({
            "task": self.task,
            "args": self.args,
            "kwargs": self.kwargs,
            "options": self.options,
            "subtask_type": null,
            "immutable": self.immutable,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Signature, send};
    use serde_json::json;
    use std::collections::HashMap;

    #[test]
    fn a_signature_is_written_as_celery_writes_it() {
        let signature = Signature::new("a")
            .arg(1)
            .kwarg("x", "y")
            .queue("q")
            .link(Signature::new("b").immutable());
        let signature = signature.link(Signature::new("c"));
        assert_eq!(
            signature.into_json(),
            json!({
                "task": "a", "args": [1], "kwargs": {"x": "y"}, "subtask_type": null, "immutable": false,
                "options": {"queue": "q", "link": [
                    {"task": "b", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": true},
                    {"task": "c", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false},
                ]},
            })
        );
    }

    #[test]
    fn an_argument_without_json_is_told_when_sent() {
        let no_json = HashMap::from([((1, 2), 3)]);
        let signature = Signature::new("a").link(Signature::new("b").arg(no_json));
        assert!(send(signature).is_err());
    }
}
