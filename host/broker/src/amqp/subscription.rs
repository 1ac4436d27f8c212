//! A consumer of a queue, as it is asked for.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use petiole_celery::plan::Source;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::channel::refused;
use super::convert;
use super::guard::Passed;
use super::names::queue_name;
use super::reply_code::PRECONDITION_FAILED;
use super::supervise::Live;
use crate::delivery::Receipt;
use crate::memory::Share;
use crate::{Answer, BrokerError, Delivery, Terms};

/// Longest time for which the broker is told that a delivery may be held: a quorum queue of RabbitMQ 4.3 ends at one
/// that Erlang has no timer for (2^60 ms, not 2^40).
const HELD_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A consumer on a channel of its own, so that the prefetch and the delivery tags are its own too.
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
    /// Arguments of the consumer, beside the prefetch.
    pub(super) arguments: FieldTable,
    /// Memory held for deliveries that did not arrive yet.
    pub(super) passed: Arc<Passed>,
    /// Cancelled when its deliveries can't be settled any more.
    pub(super) gone: CancellationToken,
}

/// Subscribes to a queue that exists. RabbitMQ takes a time for holding deliveries for quorum queues since 4.3; until
/// then it ignores it, and since then it refuses a consumer of another queue that gives one.
pub(super) async fn subscribe(
    live: &Live,
    queue: &str,
    terms: Terms,
    share: &Arc<Share>,
) -> Result<Subscription, BrokerError> {
    let Terms { prefetch, held } = terms;
    match subscribe_with(live, queue, prefetch, arguments(held), share).await {
        Err(BrokerError::Refused {
            answer:
                Answer {
                    code: PRECONDITION_FAILED,
                    text,
                },
            ..
        }) if held.is_some() => {
            debug!(
                queue,
                text, "the consumer does not say how long it holds messages"
            );
            subscribe_with(live, queue, prefetch, FieldTable::default(), share).await
        }
        subscribed => subscribed,
    }
}

fn arguments(held: Option<Duration>) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(held) = held {
        let milliseconds = held.min(HELD_LIMIT).as_millis();
        let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        table.insert(
            "x-consumer-timeout".into(),
            AMQPValue::LongLongInt(milliseconds),
        );
    }
    table
}

async fn subscribe_with(
    live: &Live,
    queue: &str,
    prefetch: u16,
    arguments: FieldTable,
    share: &Arc<Share>,
) -> Result<Subscription, BrokerError> {
    let channel = live.channel().await?;
    let passed = live.delivering.open(channel.id(), share);
    let consumer = ask(&channel, queue, prefetch, arguments.clone()).await?;
    Ok(Subscription {
        channel,
        consumer,
        arguments,
        passed,
        gone: live.gone.child_token(),
    })
}

/// A consumer of its own prefetch.
pub(super) async fn ask(
    channel: &Channel,
    queue: &str,
    prefetch: u16,
    arguments: FieldTable,
) -> Result<Consumer, BrokerError> {
    let name = queue_name(queue)?;
    let refused = |error: lapin::Error| refused(queue, &error);
    // Not global: in RabbitMQ that is a limit for each consumer, the only kind quorum queues know.
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(refused)?;
    channel
        .basic_consume(name, "".into(), BasicConsumeOptions::default(), arguments)
        .await
        .map_err(refused)
}

/// A delivery that is settled with this receipt.
pub(super) fn delivered(
    delivery: lapin::message::Delivery,
    queue: &str,
    receipt: Receipt,
) -> Delivery {
    let redelivered = delivery.redelivered;
    let (mut message, exchange, routing_key) = convert::incoming(delivery);
    if !redelivered {
        message.forget_deliveries();
    }
    Delivery {
        message,
        source: Source {
            exchange,
            routing_key,
            queue: queue.to_owned(),
        },
        redelivered,
        receipt,
    }
}
