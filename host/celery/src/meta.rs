use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{json, time};

/// A task's state, in Celery's words (<https://docs.celeryq.dev/en/stable/reference/celery.states.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// `STARTED`
    Started,
    /// `RETRY`
    Retry,
    /// `SUCCESS`
    Success,
    /// `FAILURE`
    Failure,
    /// `REVOKED`
    Revoked,
    /// `REJECTED`
    Rejected,
    /// `IGNORED`
    Ignored,
    /// Set by the task itself (`update_state`).
    Custom(String),
}

impl State {
    /// The word that stands in results and events.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Rejected => "REJECTED",
            Self::Ignored => "IGNORED",
            Self::Custom(name) => name,
        }
    }
}

/// A result backend's record of a task: the value of `celery-task-meta-<id>`.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskMeta {
    /// The task's id.
    pub task_id: String,
    /// Its state.
    pub status: State,
    /// The return value, or an [`Exception`](crate::Exception) as JSON.
    pub result: Value,
    /// The guest's stack.
    pub traceback: Option<String>,
    /// The tasks it sent, as Celery nests them: `[[id, parent], null]`.
    pub children: Vec<Value>,
    /// The time it reached a final state; none before.
    pub date_done: Option<Timestamp>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// The task that sent it.
    pub parent_id: Option<String>,
    /// With `result_extended`.
    pub extended: Option<Extended>,
}

/// Fields that `result_extended` adds.
#[derive(Debug, Clone, PartialEq)]
pub struct Extended {
    /// The task's name.
    pub name: String,
    /// Its positional arguments.
    pub args: Vec<Value>,
    /// Its keyword arguments.
    pub kwargs: Map<String, Value>,
    /// The node name of the worker that ran it; none for a task that failed because one before it in
    /// its chain did.
    pub worker: Option<String>,
    /// Number of retries.
    pub retries: u32,
    /// The routing key it was delivered with; none as for `worker`.
    pub queue: Option<String>,
    /// Its stamps by name.
    pub stamps: Map<String, Value>,
    /// Resources it used, under `usage`, which Celery does not have; empty before it has run.
    pub usage: Map<String, Value>,
}

impl TaskMeta {
    /// The JSON object that Celery's backends store and `rpc://` replies carry, with Celery's fields
    /// in Celery's order.
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields(self.result.clone()))
    }

    fn fields(&self, result: Value) -> Map<String, Value> {
        let mut meta = Map::new();
        meta.insert("status".into(), self.status.as_str().into());
        meta.insert(RESULT.into(), result);
        meta.insert("traceback".into(), self.traceback.clone().into());
        meta.insert("children".into(), self.children.clone().into());
        meta.insert("date_done".into(), self.date_done.map(time::to_iso).into());
        if let Some(group_id) = &self.group_id {
            meta.insert("group_id".into(), group_id.clone().into());
        }
        if let Some(parent_id) = &self.parent_id {
            meta.insert("parent_id".into(), parent_id.clone().into());
        }
        if let Some(extended) = &self.extended {
            extended.write(&mut meta);
        }
        meta.insert("task_id".into(), self.task_id.clone().into());
        meta
    }

    /// The same as it is written.
    pub fn to_text(&self) -> String {
        let fields = Fields {
            fields: self.fields(Value::Null),
            result: &self.result,
        };
        // A map with text for names is always JSON, which is UTF-8.
        let written = json::write(&fields, usize::MAX).map(|written| written.bytes);
        String::from_utf8(written.unwrap_or_default()).unwrap_or_default()
    }

    /// Approximate bytes of memory that its text takes.
    pub(crate) fn memory(&self) -> usize {
        let traceback = self.traceback.as_ref().map_or(0, String::len);
        let extended = self.extended.as_ref().map_or(0, |extended| {
            json::size(&extended.args) + json::size(&extended.kwargs)
        });
        json::size(&self.result) + traceback + extended
    }
}

const RESULT: &str = "result";

/// Fields of a result, for writing. The value itself may be large, and is not copied for this.
struct Fields<'a> {
    fields: Map<String, Value>,
    result: &'a Value,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.fields.iter();
        serializer.collect_map(fields.map(|(name, value)| match name.as_str() {
            RESULT => (name, self.result),
            _ => (name, value),
        }))
    }
}

impl Extended {
    fn write(&self, meta: &mut Map<String, Value>) {
        // A stamp must not be able to overwrite a field of the result.
        if !self.stamps.is_empty() {
            let names: Vec<&str> = self.stamps.keys().map(String::as_str).collect();
            meta.insert("stamped_headers".into(), names.into());
            for (name, stamp) in &self.stamps {
                meta.entry(name.clone()).or_insert_with(|| stamp.clone());
            }
        }
        meta.insert("name".into(), self.name.clone().into());
        meta.insert("args".into(), self.args.clone().into());
        meta.insert("kwargs".into(), self.kwargs.clone().into());
        meta.insert("worker".into(), self.worker.clone().into());
        meta.insert("retries".into(), self.retries.into());
        meta.insert("queue".into(), self.queue.clone().into());
        if !self.usage.is_empty() {
            meta.insert("usage".into(), self.usage.clone().into());
        }
    }
}
