//! Hands out what one subscription delivers, and asks for no more than there is memory for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::BasicCancelOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ack;
use super::channel::refused;
use super::guard::{LeftOut, Passed};
use super::operation::OPERATION_LIMIT;
use super::subscription::{Subscription, ask, delivered};
use super::window::Window;
use crate::delivery::{Receipt, Settlement, Settlements};
use crate::{BrokerError, Delivery};

/// Time for which a channel may be silent after another consumer was asked for.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

pub(super) enum Ended {
    Lost,
    Unread,
}

/// Runs until nobody reads any more, or nothing can come.
pub(super) async fn forward(
    subscription: Subscription,
    queue: &str,
    window: &mut Window,
    out: &mpsc::Sender<Delivery>,
) -> Ended {
    let Subscription {
        channel,
        mut consumer,
        arguments,
        passed,
        gone,
    } = subscription;
    // Whatever lapin still has of it when this ends is there until the channel is closed.
    let settlements = ack::start(channel.clone(), gone.clone(), Arc::clone(&passed));
    let mut forwarding = Forwarding {
        channel,
        arguments,
        passed,
        gone,
        settlements,
        queue,
        window,
        out,
        left_out: Vec::new(),
    };
    loop {
        tokio::select! {
            biased;
            () = out.closed() => {
                forwarding.unsubscribe(consumer).await;
                return Ended::Unread;
            }
            () = forwarding.gone.cancelled() => return Ended::Lost,
            change = forwarding.change() => match change {
                Change::Ask(prefetch) => match forwarding.ask(consumer, prefetch).await {
                    Some(next) => consumer = next,
                    None => return Ended::Lost,
                },
                Change::GiveBack => forwarding.give_back(),
            },
            delivery = consumer.next() => match delivery {
                Some(Ok(delivery)) => forwarding.take(delivery).await,
                Some(Err(error)) => {
                    warn!(queue, %error, "the consumer failed");
                    forwarding.gone.cancel();
                    return Ended::Lost;
                }
                None => {
                    forwarding.ended();
                    return Ended::Lost;
                }
            },
        }
    }
}

/// Something to do beside handing out.
enum Change {
    /// Ask for another number of messages.
    Ask(u16),
    /// Let what was left out come again.
    GiveBack,
}

struct Forwarding<'a> {
    channel: Channel,
    arguments: FieldTable,
    passed: Arc<Passed>,
    gone: CancellationToken,
    settlements: Settlements,
    queue: &'a str,
    window: &'a mut Window,
    out: &'a mpsc::Sender<Delivery>,
    /// Of deliveries that came without their bodies, for which there was no room.
    left_out: Vec<Receipt>,
}

impl Forwarding<'_> {
    /// Waits until there is something to be changed.
    ///
    /// A consumer that was delivered what there is no room for asks for one message at a time, and for more again as
    /// soon as there is room for more. So a message that found no room does not find none again, neither here nor at
    /// another worker whose memory is full: that one asks for nothing then.
    async fn change(&self) -> Change {
        if self.window.is_whole() && self.left_out.is_empty() {
            return std::future::pending().await;
        }
        let share = self.passed.share();
        loop {
            let given_back = share.memory.given_back();
            if !self.left_out.is_empty() {
                if self.window.asked > 1 {
                    return Change::Ask(1);
                }
                // Left out as the one message beyond the room was there, which has gone since.
                if share.takes_any() {
                    return Change::GiveBack;
                }
            }
            if let Some(wider) = self.window.wider(&share.memory, self.handed_out()) {
                return Change::Ask(wider);
            }
            given_back.await;
        }
    }

    /// Deliveries that are not settled yet, counted by the receipts that can still ask for it.
    fn handed_out(&self) -> usize {
        let kept = self.left_out.len() + 1;
        self.settlements.strong_count().saturating_sub(kept)
    }

    async fn take(&mut self, delivery: lapin::message::Delivery) {
        if let Some(delivery) = self.receive(delivery) {
            // Its reader gone, the delivery is dropped here, and goes back to the queue.
            let _ = self.out.send(delivery).await;
        }
    }

    /// None where it came without its body.
    fn receive(&mut self, delivery: lapin::message::Delivery) -> Option<Delivery> {
        let tag = delivery.delivery_tag;
        let held = self.passed.arrived(tag);
        let left_out = LeftOut::of(&delivery);
        let bytes = left_out.map_or(held.as_ref().map_or(0, |held| held.bytes()), |left_out| {
            left_out.bytes
        });
        self.window.delivered(bytes);
        let receipt = Receipt::new(tag, self.settlements.clone(), self.gone.clone(), held);
        if left_out.is_some() {
            self.left_out.push(receipt);
            return None;
        }
        Some(delivered(delivery, self.queue, receipt))
    }

    fn give_back(&mut self) {
        for receipt in self.left_out.drain(..) {
            receipt.give_back_at_once();
        }
    }

    /// Goes on with a consumer that asks for `prefetch` messages: the prefetch of an existing one can't be changed. It
    /// begins before the other one ends, since a queue may be deleted with its last consumer. None if the channel is
    /// gone.
    async fn ask(&mut self, mut before: Consumer, prefetch: u16) -> Option<Consumer> {
        debug!(
            queue = self.queue,
            prefetch,
            before = self.window.asked,
            "asking for another number of messages"
        );
        // Whatever comes of it: another subscription is not to be delivered too much again.
        self.window.asked = prefetch;
        let (channel, queue) = (self.channel.clone(), self.queue);
        let begun = ask(&channel, queue, prefetch, self.arguments.clone());
        let (next, ended) = self.meanwhile(&mut before, begun).await?;
        if ended {
            // Its deliveries may be others' by now: none of them is settled any more.
            warn!(queue, "the broker ended the consumer");
            self.gone.cancel();
            return None;
        }
        let tag = before.tag();
        let cancelled = async {
            let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
            let cancelled = cancelled.await;
            cancelled.map_err(|error| refused(queue, &error))
        };
        let ((), mut ended) = self.meanwhile(&mut before, cancelled).await?;
        while !ended {
            match before.next().await {
                Some(Ok(delivery)) => self.take(delivery).await,
                Some(Err(_)) | None => ended = true,
            }
        }
        // By the time that they come again, others who were delivered too much ask for less as well.
        self.left_out.drain(..).for_each(Receipt::give_back);
        Some(next)
    }

    /// Hands out what a consumer is delivered until the broker has answered, which comes behind all that was delivered
    /// before; returns also whether the consumer has ended. None if the channel is gone.
    async fn meanwhile<T>(
        &mut self,
        consumer: &mut Consumer,
        answer: impl Future<Output = Result<T, BrokerError>>,
    ) -> Option<(T, bool)> {
        let queue = self.queue;
        let mut answer = pin!(answer);
        let mut ended = false;
        loop {
            tokio::select! {
                biased;
                () = self.gone.cancelled() => return None,
                // Before the answer, or an end that came before it would be seen after it.
                delivery = consumer.next(), if !ended => match delivery {
                    Some(Ok(delivery)) => self.take(delivery).await,
                    Some(Err(_)) | None => ended = true,
                },
                answer = &mut answer => match answer {
                    Ok(answer) => return Some((answer, ended)),
                    Err(error) => {
                        warn!(queue, %error, "can't consume");
                        self.gone.cancel();
                        return None;
                    }
                },
                () = sleep(SILENCE_LIMIT) => {
                    warn!(queue, "the broker does not answer a consumer that asks for another number of messages");
                    self.gone.cancel();
                    return None;
                }
            }
        }
    }

    fn ended(&self) {
        warn!(queue = self.queue, "the broker ended the consumer");
        if self.channel.status().connected() {
            // RabbitMQ 4.3 ends the consumer of a quorum queue so, when a message was held for its
            // `consumer_timeout`: the others can still be settled.
            let _ = self.settlements.send(Settlement::ConsumerEnded);
        } else {
            self.gone.cancel();
        }
    }

    /// Ends the consumer, then gives back what it had fetched: in this order, or it would come again.
    async fn unsubscribe(mut self, mut consumer: Consumer) {
        let cancelled = self
            .channel
            .basic_cancel(consumer.tag(), BasicCancelOptions::default());
        if !matches!(timeout(OPERATION_LIMIT, cancelled).await, Ok(Ok(()))) {
            // Its channel is closed then, which gives everything back.
            self.gone.cancel();
            return;
        }
        while let Some(Ok(delivery)) = consumer.next().await {
            drop(self.receive(delivery));
        }
        // Fails where the channel is gone, which gives everything back.
        let _ = self.settlements.send(Settlement::ReaderGone);
    }
}
