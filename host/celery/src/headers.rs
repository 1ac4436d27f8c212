//! Whose a message header is: Celery's, the broker's, or the producer's own.

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

/// What all of Petiole's own headers begin with.
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
/// Header of a message that was sent again out of quarantine: how often.
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
/// Header added to a message in quarantine: the `reply_to` that it came with. RabbitMQ refuses one that is a name of its
/// own (`amq.rabbitmq.reply-to`).
pub(crate) const REPLY_TO: &str = "x-petiole-reply-to";

/// Header that the broker's side adds to a message whose properties and headers it can't read as they are: why.
/// Such a message is [`Refusal::Malformed`](crate::Refusal::Malformed).
pub const UNREADABLE: &str = "x-petiole-unreadable";
/// Header of such a message: its AMQP properties as they came, or the beginning of them.
pub const RAW_PROPERTIES: &str = "x-petiole-raw-properties";

/// How often a message was sent again: out of quarantine, or by somebody who has moved it back after `queue` had rejected
/// it. RabbitMQ counts the latter up to 3.13; later versions count anew each time.
pub(crate) fn sent_again(headers: &Map<String, Value>, queue: &str) -> u64 {
    let out_of_quarantine = headers.get(SENT_AGAIN).and_then(Value::as_u64);
    out_of_quarantine
        .unwrap_or(0)
        .saturating_add(rejections(headers, queue))
}

/// How often a queue has rejected a message, as its broker tells
/// ([`x-death`](https://www.rabbitmq.com/docs/dlx#effects)).
fn rejections(headers: &Map<String, Value>, queue: &str) -> u64 {
    let Some(deaths) = headers.get(DEATHS) else {
        return 0;
    };
    let deaths = Field::of(deaths).plain();
    let deaths = deaths.as_array().into_iter().flatten();
    let rejections = deaths.filter(|death| {
        death.get("reason").and_then(Value::as_str) == Some("rejected")
            && death.get("queue").and_then(Value::as_str) == Some(queue)
    });
    rejections
        .filter_map(|death| death.get("count").and_then(Value::as_u64))
        .fold(0, u64::saturating_add)
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
