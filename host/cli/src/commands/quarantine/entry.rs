//! Messages in quarantine as they are shown.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use petiole_celery::{Kept, Message, wire};
use serde::Serialize;
use serde_json::{Value, json};

use crate::logging::escaped;
use crate::tables::table;

/// A message in a list.
#[derive(Serialize)]
pub(super) struct Entry {
    pub(super) id: Option<String>,
    pub(super) task: Option<String>,
    pub(super) task_id: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) kept_at: Option<String>,
}

impl Entry {
    pub(super) fn of(message: Message) -> Self {
        let id = message.properties.message_id.clone();
        let kept = Kept::open(message);
        let header = |name| {
            let headers = &kept.as_ref()?.message.headers;
            let value = wire::plain(headers).get(name)?.as_str()?.to_owned();
            Some(value)
        };
        Self {
            task: header("task"),
            task_id: header("id"),
            kept_at: id.as_deref().and_then(kept_at).map(|time| time.to_string()),
            id,
            exchange: kept.as_ref().map(|kept| kept.destination.exchange.clone()),
            routing_key: kept
                .as_ref()
                .map(|kept| kept.destination.routing_key.clone()),
            reason: kept.map(|kept| kept.reason),
        }
    }
}

/// The time at which a message was kept: the broker crate's ids (UUIDv7) begin with it.
fn kept_at(id: &str) -> Option<Timestamp> {
    let (seconds, _) = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

/// A table of them.
pub(super) fn listed(entries: &[Entry]) -> String {
    let cell = |text: &Option<String>| escaped(text.as_deref().unwrap_or("-"));
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            let exchange = entry.exchange.as_deref().filter(|name| !name.is_empty());
            let queue = match exchange {
                Some(exchange) => escaped(&format!("{exchange}/{}", cell(&entry.routing_key))),
                None => cell(&entry.routing_key),
            };
            [
                cell(&entry.id),
                cell(&entry.task),
                cell(&entry.task_id),
                queue,
                cell(&entry.kept_at),
                cell(&entry.reason),
            ]
        })
        .collect();
    table(["ID", "TASK", "TASK ID", "QUEUE", "KEPT", "REASON"], &rows)
}

/// All of a message; bytes that are no text as kombu writes them.
pub(super) fn shown(message: Message) -> Value {
    let entry = Entry::of(message.clone());
    let message = match Kept::open(message.clone()) {
        Some(kept) => kept.message,
        None => message,
    };
    let body = match str::from_utf8(&message.body) {
        Ok(text) => json!(text),
        Err(_) => json!({
            "__type__": "base64", "__value__": BASE64_STANDARD.encode(&message.body),
        }),
    };
    json!({
        "id": entry.id, "kept_at": entry.kept_at, "reason": entry.reason,
        "exchange": entry.exchange, "routing_key": entry.routing_key,
        "properties": message.properties, "headers": message.headers, "body": body,
    })
}
