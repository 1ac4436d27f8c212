use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::headers;
use crate::wire::Field;

/// A message as a broker carries it, the same for RabbitMQ and the embedded broker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// AMQP basic properties other than the headers (AMQP 0-9-1 section 1.8.1).
    pub properties: Properties,
    /// AMQP application headers, in which protocol v2 carries the task's metadata; values that JSON has no
    /// form for as [`Field`](crate::wire::Field) says.
    pub headers: Map<String, Value>,
    /// The body, still encoded as `properties.content_type` and `content_encoding` say. Its clones share its memory.
    pub body: Bytes,
}

/// AMQP's basic properties (AMQP 0-9-1 section 1.8.1), but for the headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Properties {
    /// `application/json` for everything that Petiole sends.
    pub content_type: Option<String>,
    /// `utf-8`, `binary` or `base64`.
    pub content_encoding: Option<String>,
    /// Kept on the broker's disk: delivery mode 2.
    pub persistent: bool,
    /// 0 to 255, higher first; only queues declared with `x-max-priority` respect it.
    pub priority: Option<u8>,
    /// The task id.
    pub correlation_id: Option<String>,
    /// The queue that an `rpc://` client reads its results from.
    pub reply_to: Option<String>,
    /// Milliseconds, as a decimal string, after which the broker may drop the message.
    pub expiration: Option<String>,
    /// Identifies the message; Celery leaves it out.
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// `type`: the application's name for the kind of message.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The user that sent it, checked by the broker. Never sent on: RabbitMQ closes the channel of another user.
    pub user_id: Option<String>,
    /// The application that sent it.
    pub app_id: Option<String>,
    /// Deprecated by AMQP.
    pub cluster_id: Option<String>,
}

/// The address that a message is published to (AMQP 0-9-1 `basic.publish`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Empty for the default exchange, which routes to the queue named by the routing key.
    pub exchange: String,
    /// The queue's name on the default exchange.
    pub routing_key: String,
}

impl Destination {
    /// The queue of this name, by the default exchange.
    pub fn queue(name: impl Into<String>) -> Self {
        Self {
            exchange: String::new(),
            routing_key: name.into(),
        }
    }
}

impl Message {
    /// The task that its headers name.
    pub fn task(&self) -> Option<Cow<'_, str>> {
        match self.headers.get("task")? {
            Value::String(task) => Some(Cow::Borrowed(task)),
            other => match Field::of(other).plain() {
                Value::String(task) => Some(Cow::Owned(task)),
                _ => None,
            },
        }
    }

    /// Deliveries of it that ended without being settled, where its queue counts them (RabbitMQ's quorum queues do);
    /// else 0.
    pub fn deliveries_lost(&self) -> u64 {
        let count = self.headers.get(headers::DELIVERIES);
        count
            .and_then(|count| Field::of(count).plain().as_u64())
            .unwrap_or(0)
    }

    /// To be called when the message first comes: the count is its sender's then, since brokers overwrite it from the
    /// second time on.
    pub fn forget_deliveries(&mut self) {
        self.headers.shift_remove(headers::DELIVERIES);
    }

    /// To be called with the queue that it was consumed from, before any other method: each rejection by this queue
    /// counts as one more time that it was sent again.
    pub fn count_rejections(&mut self, queue: &str) {
        headers::count_rejections(&mut self.headers, queue);
    }

    /// True if its sender wants no result, as far as the headers say.
    pub fn ignores_result(&self) -> bool {
        self.headers.get("ignore_result") == Some(&Value::Bool(true))
    }
}

/// Bytes of memory for an entry of a JSON object beside its name and value: the name's own, its hash and place.
const ENTRY: usize = 48;

impl Message {
    /// Approximate bytes of memory that it takes, to which small values in its headers add more than their text.
    pub(crate) fn memory(&self) -> usize {
        self.body.len() + of_object(&self.headers)
    }
}

/// Approximate bytes of memory that all of them take.
pub(crate) fn memory(publications: &[Publication]) -> usize {
    publications.iter().map(|one| one.message.memory()).sum()
}

fn of_object(object: &Map<String, Value>) -> usize {
    let entries = object.iter();
    entries
        .map(|(name, value)| ENTRY + name.len() + of_value(value))
        .sum()
}

fn of_value(value: &Value) -> usize {
    let held = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(of_value).sum(),
        Value::Object(object) => of_object(object),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + held
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// The message's exchange and routing key.
    pub destination: Destination,
    /// The message to send.
    pub message: Message,
    /// True if a message that reaches no queue is a fault. False only for replies, whose reader may have gone.
    pub mandatory: bool,
    /// Held back by the broker until then; sent at once if this is past or none.
    pub not_before: Option<Timestamp>,
}
