//! Consumes one queue, over as many connections as it takes.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use petiole_celery::plan::Source;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::forward::{Ended, forward};
use super::guard::Passed;
use super::supervise::{Link, Live, Pauses};
use super::window::Window;
use super::{OPERATION_LIMIT, PRECONDITION_FAILED, ack, convert, declare, limited};
use crate::delivery::{Receipt, Settlement};
use crate::memory::Share;
use crate::said::Said;
use crate::{Answer, BrokerError, Delivery, Terms};

/// Longest time for which the broker is told that a delivery may be held: a quorum queue of RabbitMQ 4.3 ends at one
/// that Erlang has no timer for (2^60 ms, not 2^40).
const HELD_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A consumer on a channel of its own, so that the prefetch and the delivery tags are its own too.
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
    /// What it says to the broker, beside the prefetch.
    pub(super) arguments: FieldTable,
    /// What is held for deliveries that did not arrive yet.
    pub(super) passed: Arc<Passed>,
    /// Cancelled when its deliveries can't be settled any more.
    pub(super) gone: CancellationToken,
}

/// Subscribes to a queue that exists. How long a delivery may be held RabbitMQ takes for quorum queues since 4.3; until
/// then it passes it over, and since then it refuses a consumer of another queue that says so.
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
    let name = declare::queue_name(queue)?;
    let refused = |error: lapin::Error| declare::refused(queue, &error);
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

/// Forwards deliveries until nobody reads them any more or the broker is closed.
pub(super) async fn feed(
    link: Link,
    queue: String,
    mut terms: Terms,
    share: Arc<Share>,
    first: Subscription,
    out: mpsc::Sender<Delivery>,
) {
    let mut subscription = first;
    let mut window = Window::new(terms.prefetch);
    while let Ended::Lost = forward(subscription, &queue, &mut window, &out).await {
        terms.prefetch = window.asked;
        let again = tokio::select! {
            again = resubscribe(&link, &queue, terms, &share) => again,
            () = out.closed() => return,
        };
        match again {
            Some(again) => subscription = again,
            None => return,
        }
        info!(queue, "consuming again");
    }
}

/// Fetches the messages of a queue one by one, on a channel of its own.
pub(super) struct Getting {
    channel: Channel,
    queue: ShortString,
    gone: CancellationToken,
}

impl Getting {
    pub(super) async fn start(live: &Live, queue: &str) -> Result<Self, BrokerError> {
        if declare::length(live, queue).await?.is_none() {
            return Err(BrokerError::no_such_queue(queue));
        }
        Ok(Self {
            channel: live.channel().await?,
            queue: declare::queue_name(queue)?,
            gone: live.gone.child_token(),
        })
    }

    /// Until the queue is empty, or nobody asks for more.
    pub(super) async fn run(self, out: mpsc::Sender<Delivery>) {
        let settlements = ack::start(self.channel.clone(), self.gone.clone(), ());
        let queue = self.queue.as_str();
        while let Ok(place) = out.reserve().await {
            let get = self
                .channel
                .basic_get(self.queue.clone(), BasicGetOptions::default());
            match timeout(OPERATION_LIMIT, get).await {
                Ok(Ok(Some(message))) => {
                    let delivery = message.delivery;
                    let receipt = Receipt::new(
                        delivery.delivery_tag,
                        settlements.clone(),
                        self.gone.clone(),
                        None,
                    );
                    place.send(delivered(delivery, queue, receipt));
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    warn!(queue, %error, "the queue is not read any further");
                    return self.gone.cancel();
                }
                Err(_) => return self.gone.cancel(),
            }
        }
        // Fails where the channel is gone, which gives everything back.
        let _ = settlements.send(Settlement::ReaderGone);
    }
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

/// Subscribes again, on this connection or the next; none once the broker is closed.
async fn resubscribe(
    link: &Link,
    queue: &str,
    terms: Terms,
    share: &Arc<Share>,
) -> Option<Subscription> {
    let mut pauses = Pauses::default();
    let mut said = Said::default();
    loop {
        sleep(pauses.next()).await;
        let live: Arc<Live> = link.live().await?;
        match limited(redeclare_and_subscribe(&live, queue, terms, share)).await {
            Ok(subscription) => return Some(subscription),
            Err(error) if said.is_news(&error) => warn!(queue, %error, "can't consume"),
            Err(_) => {}
        }
    }
}

async fn redeclare_and_subscribe(
    live: &Live,
    queue: &str,
    terms: Terms,
    share: &Arc<Share>,
) -> Result<Subscription, BrokerError> {
    if declare::length(live, queue).await?.is_none() {
        warn!(queue, "the queue was deleted: declaring it again");
        declare::queue(live, queue).await?;
    }
    subscribe(live, queue, terms, share).await
}
