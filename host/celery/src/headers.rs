//! Ownership of message headers: Celery's, the broker's, or the producer's own.

use serde_json::{Map, Value};

use crate::wire::{Field, plain};

/// Headers that Celery's task protocol 2 and kombu define.
const CELERY: [&str; 20] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
];

/// Prefix of all of Petiole's own headers.
const OWN: &str = "x-petiole-";
/// Header of a message from a quorum queue: how many of its deliveries have ended without being settled.
pub(crate) const DELIVERIES: &str = "x-delivery-count";
/// Header of a message that was dead-lettered: from where, why and how often.
const DEATHS: &str = "x-death";
/// Headers on what guests send: [`Lineage`](crate::Lineage).
pub(crate) const DESCENDANTS: &str = "x-petiole-descendants";
pub(crate) const DEPTH: &str = "x-petiole-depth";

/// Header of a message that its task has given back: how often.
pub(crate) const REQUEUES: &str = "x-petiole-requeues";
/// Header of a message that was given back since other tasks had all the memory: how often, in this run.
pub(crate) const MEMORY_WAITS: &str = "x-petiole-memory-waits";
/// Header of a message that was sent again, out of quarantine or after its queue had rejected it: how often.
pub(crate) const SENT_AGAIN: &str = "x-petiole-sent-again";
/// Header added to a message in quarantine: why it is there.
pub(crate) const REASON: &str = "x-petiole-reason";
/// Header added to a message in quarantine: the queue that it was consumed from, or the routing key that it was
/// to go by.
pub(crate) const QUEUE: &str = "x-petiole-queue";
/// Header added to a message in quarantine: the exchange that it was to go by, where it has a name.
pub(crate) const EXCHANGE: &str = "x-petiole-exchange";
/// Header added to a message in quarantine: the `message_id` that it came with.
pub(crate) const MESSAGE_ID: &str = "x-petiole-message-id";
/// Header added to a message in quarantine, where all are persistent: the `delivery_mode` of one that was not.
pub(crate) const DELIVERY_MODE: &str = "x-petiole-delivery-mode";
/// Header added to a message in quarantine: the `expiration` that it came with, which would end it there.
pub(crate) const EXPIRATION: &str = "x-petiole-expiration";
/// Header added to a message in quarantine: the `user_id` that it came with.
pub(crate) const USER_ID: &str = "x-petiole-user-id";
/// Header added to a message in quarantine: the `reply_to` that it came with. RabbitMQ refuses one that is a name of
/// its own (`amq.rabbitmq.reply-to`).
pub(crate) const REPLY_TO: &str = "x-petiole-reply-to";

/// Header that the broker's side adds to a message whose properties and headers it can't read as they are: why.
/// Such a message is [`Refusal::Malformed`](crate::Refusal::Malformed).
pub const UNREADABLE: &str = "x-petiole-unreadable";
/// Header of such a message: its AMQP properties as they came, or the beginning of them.
pub const RAW_PROPERTIES: &str = "x-petiole-raw-properties";

/// Times that a message was sent again.
pub(crate) fn sent_again(headers: &Map<String, Value>) -> u64 {
    headers.get(SENT_AGAIN).and_then(Value::as_u64).unwrap_or(0)
}

/// Counts each rejection by a queue as one more time that a message was sent again. Removes RabbitMQ's list of these
/// ([`x-death`](https://www.rabbitmq.com/docs/dlx#effects)), which no copy of the message may have. Up to 3.13 it goes
/// on counting; later versions begin anew each time.
pub(crate) fn count_rejections(headers: &mut Map<String, Value>, queue: &str) {
    let Some(Value::Array(deaths)) = headers.shift_remove(DEATHS) else {
        return;
    };
    let rejections = deaths.iter().map(|death| rejections(death, queue));
    let rejections = rejections.fold(0, u64::saturating_add);
    if rejections > 0 {
        let times = sent_again(headers).saturating_add(rejections);
        headers.insert(SENT_AGAIN.to_owned(), times.into());
    }
}

fn rejections(death: &Value, queue: &str) -> u64 {
    let is = |name, text| death.get(name).and_then(Value::as_str) == Some(text);
    if !is("reason", "rejected") || !is("queue", queue) {
        return 0;
    }
    let count = death.get("count").map(|count| Field::of(count).plain());
    count.as_ref().and_then(Value::as_u64).unwrap_or(0)
}

pub(crate) fn is_celerys(name: &str) -> bool {
    CELERY.contains(&name)
}

/// Headers that are the worker's to write, never a guest's.
pub(crate) fn is_petioles(name: &str) -> bool {
    name.starts_with(OWN)
}

/// Headers that tell of one message's way through the broker, or that direct it. On a copy they would
/// be wrong: RabbitMQ drops a message whose `x-death` makes a cycle, and sends one with `CC` to each
/// queue named there again.
pub(crate) fn is_brokers(name: &str) -> bool {
    matches!(
        name,
        DEATHS | DELIVERIES | "x-acquired-count" | "CC" | "BCC"
    ) || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
        || is_quarantines(name)
}

/// Headers that tell why and from where a message is in quarantine.
fn is_quarantines(name: &str) -> bool {
    matches!(
        name,
        REASON | QUEUE | EXCHANGE | MESSAGE_ID | DELIVERY_MODE | EXPIRATION | USER_ID | REPLY_TO
    )
}

/// The headers of a message that is not in quarantine.
pub(crate) fn without_quarantines(headers: &Map<String, Value>) -> Map<String, Value> {
    select(headers, |name| !is_quarantines(name))
}

/// The headers that a copy of the message takes along.
pub(crate) fn without_brokers(headers: &Map<String, Value>) -> Map<String, Value> {
    select(headers, |name| !is_brokers(name))
}

/// The headers that the producer added, as a reader wants them.
pub(crate) fn own(headers: &Map<String, Value>) -> Map<String, Value> {
    select(&plain(headers), |name| {
        !is_brokers(name) && !is_celerys(name) && !is_petioles(name)
    })
}

fn select(headers: &Map<String, Value>, wanted: impl Fn(&str) -> bool) -> Map<String, Value> {
    headers
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    const LARGEST: u64 = i64::MAX.cast_unsigned();

    /// An entry of `x-death` as RabbitMQ writes it.
    fn death(queue: &str, reason: &str, count: u64) -> Value {
        json!({
            "count": {"__type__": "amqp.i64", "__value__": count}, "reason": reason, "queue": queue,
            "exchange": "", "routing-keys": [queue], "time": {"__type__": "amqp.timestamp", "__value__": 1_700_000_000},
        })
    }

    #[test]
    fn each_rejection_by_the_queue_is_one_more_time_that_a_message_was_sent_again() {
        let many = [
            death("wasm", "expired", 2),
            death("other", "rejected", 5),
            death("wasm", "rejected", 3),
        ];
        let table = [
            (json!({"x-petiole-sent-again": 4}), 4),
            (json!({"x-death": [death("wasm", "rejected", 1)]}), 1),
            (json!({"x-death": many, "x-petiole-sent-again": 4}), 7),
            (
                json!({"x-death": [death("wasm", "rejected", LARGEST), death("wasm", "rejected", 1)]}),
                LARGEST + 1,
            ),
            (
                json!({"x-death": ["rejected", null, {"reason": "rejected", "queue": "wasm"}]}),
                0,
            ),
            (json!({"x-death": {"reason": "rejected"}}), 0),
        ];
        for (mut headers, times) in table {
            let headers = headers.as_object_mut().unwrap();
            // A second time changes nothing.
            for _ in 0..2 {
                count_rejections(headers, "wasm");
                assert_eq!(sent_again(headers), times);
                assert!(!headers.contains_key(DEATHS));
            }
        }
    }
}
