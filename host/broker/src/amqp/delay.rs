//! Celery's native delayed delivery (>= 5.5): messages with a time wait in the broker.
//!
//! Level n, from 27 down to 0, is a topic exchange and a queue `celery_delayed_n`. The routing key begins
//! with the delay's seconds as 28 binary digits, one word each. Where the digit of a level is 1 its
//! exchange routes to its queue, in which the message spends 2^n s before it is dead-lettered to the next
//! level; where it is 0 straight to the next level's exchange. Level 0 leads to the exchange
//! `celery_delayed_delivery`, to which target queues are bound. Names and arguments are those of
//! `kombu/transport/native_delayed_delivery.py`, so that Celery and Petiole can share them.

use lapin::options::QueueBindOptions;
use lapin::types::{AMQPValue, FieldTable};
use petiole_celery::wire::{DELAY_LEVELS as LEVELS, DELAY_PREFIX};

use super::channel::{close, refused};
use super::names::{queue_name, short};
use super::supervise::Live;
use crate::BrokerError;

/// Exchange that delayed messages are published to.
pub(super) const ENTRY: &str = "celery_delayed_27";
/// Exchange that they come out of.
pub(super) const EXIT: &str = "celery_delayed_delivery";

/// The routing key under which a message for a queue waits.
pub(super) fn routing_key(seconds: u64, queue: &str) -> String {
    let mut key = String::with_capacity(DELAY_PREFIX + queue.len());
    for level in (0..LEVELS).rev() {
        key.push_str(if seconds >> level & 1 == 1 {
            "1."
        } else {
            "0."
        });
    }
    key + queue
}

/// Undoes what the levels change: the exchange and routing key that a message was published with.
pub(super) fn as_published<'a>(exchange: &'a str, routing_key: &'a str) -> (&'a str, &'a str) {
    if exchange != EXIT {
        return (exchange, routing_key);
    }
    match routing_key.split_at_checked(DELAY_PREFIX) {
        Some((digits, queue))
            if digits
                .as_bytes()
                .chunks(2)
                .all(|pair| matches!(pair, b"0." | b"1.")) =>
        {
            ("", queue)
        }
        _ => (exchange, routing_key),
    }
}

/// Binds a queue to the exit. Celery binds `#.<queue>`, with which a message for `a.b` reaches queue `b`
/// as well; as many `*` as there are digits match the same messages and no others.
pub(super) async fn bind(live: &Live, queue: &str) -> Result<(), BrokerError> {
    if queue.split('.').any(|word| matches!(word, "*" | "#")) {
        return Err(BrokerError::Queue {
            queue: queue.to_owned(),
            reason: "a name with a word * or # can't be bound for delays".to_owned(),
        });
    }
    let key = "*.".repeat(usize::from(LEVELS)) + queue;
    let short_key = short("delayed routing key", &key).map_err(|error| BrokerError::Queue {
        queue: queue.to_owned(),
        reason: error.to_string(),
    })?;
    let name = queue_name(queue)?;
    let channel = live.channel().await?;
    channel
        .queue_bind(
            name,
            EXIT.into(),
            short_key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| refused(queue, &error))?;
    close(&channel).await;
    Ok(())
}

pub(super) fn name(level: u8) -> String {
    format!("celery_delayed_{level}")
}

pub(super) fn next(level: u8) -> String {
    level.checked_sub(1).map_or_else(|| EXIT.to_owned(), name)
}

pub(super) fn arguments(level: u8, quorum: bool) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    table.insert(
        "x-queue-type".into(),
        text(if quorum { "quorum" } else { "classic" }),
    );
    table.insert("x-overflow".into(), text("reject-publish"));
    table.insert(
        "x-message-ttl".into(),
        AMQPValue::LongLongInt((1_i64 << level) * 1000),
    );
    table.insert("x-dead-letter-exchange".into(), text(&next(level)));
    if quorum {
        table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routing_key_is_celerys() {
        // From kombu: calculate_routing_key(10, "destination").
        let key = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.0.destination";
        assert_eq!(routing_key(10, "destination"), key);
        assert_eq!(as_published(EXIT, key), ("", "destination"));
        assert_eq!(as_published("other", key), ("other", key));
        assert_eq!(as_published(EXIT, "1.0.short"), (EXIT, "1.0.short"));
    }
}
