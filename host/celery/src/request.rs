use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{Embed, Lineage, Message, Refusal, canvas, headers};

/// A decoded task message (protocol v2).
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Header `id`.
    pub id: String,
    /// Header `task`: the task's name.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Callbacks, chain and chord that follow the task.
    pub embed: Embed,
    /// Not to be run before.
    pub eta: Option<Timestamp>,
    /// Not to be run after.
    pub expires: Option<Timestamp>,
    /// Number of retries so far.
    pub retries: u32,
    /// Header `timelimit`.
    pub time_limits: TimeLimits,
    /// The first task of the workflow; the task itself where the header is missing.
    pub root_id: String,
    /// The task that sent this one.
    pub parent_id: Option<String>,
    /// The group it belongs to.
    pub group: Option<String>,
    /// Its place in that group.
    pub group_index: Option<u32>,
    /// No result is wanted.
    pub ignore_result: bool,
    /// Times that its task has given it back to its queue.
    pub requeues: u32,
    /// Times that this run was put off since other tasks had all the memory.
    pub memory_waits: u32,
    /// Times that it has replaced itself.
    pub replaced_task_nesting: u32,
    /// Names of the headers that are stamps.
    pub stamped_headers: Vec<String>,
    /// Stamps by name.
    pub stamps: Map<String, Value>,
    /// Allowance for what may still come of it; none if no guest has sent it.
    pub lineage: Option<Lineage>,
    /// The whole message as it came, so that it can be published again.
    pub message: Message,
}

/// The message's time limits; `[hard, soft]` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeLimits {
    /// The task is ended.
    pub hard: Option<Duration>,
    /// The task is asked to end.
    pub soft: Option<Duration>,
}

impl Request {
    /// The headers that the producer added: neither Celery's nor the broker's.
    pub fn own_headers(&self) -> Map<String, Value> {
        headers::own(&self.message.headers)
    }

    /// The reason why a well-formed request must not run: something that follows it can't be carried out. To be called
    /// before it runs. `sent_limit`: [`Policy`](crate::plan::Policy)'s.
    pub fn unsupported(&self, sent_limit: usize) -> Option<Refusal> {
        canvas::check(&self.embed, sent_limit).err()
    }
}
