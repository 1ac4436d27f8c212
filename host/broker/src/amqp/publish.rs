//! Publishes on confirm channels: many publications in flight, one task for each channel that writes them,
//! since lapin tells the confirms of a channel apart only by the order of its publishing.
//!
//! A refusal closes the channel that it comes on, and leaves what is in flight beside it unconfirmed. So each
//! exchange has a channel of its own, and a [suspect](is_suspect) goes alone, one at a time, over one of a few
//! others: whatever the broker says there is said of it. So does the first message that names its exchange itself,
//! until that exchange has taken one with this routing key. What was in flight with others on a channel that was
//! closed by a refusal is sent again alone, so that only the one that is meant is refused.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use lapin::Channel;
use lapin::options::{BasicQosOptions, ConfirmSelectOptions};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::warn;

use super::channel;
use super::confirms::Fate;
use super::convert::Outgoing;
use super::flights::{Ended, Flights, Landing};
use super::operation::limited;
use super::supervise::{BACKOFF, Link, Live};
use crate::said::Said;
use crate::{BrokerError, PublishError};

/// Publications that wait to be written to a channel.
const WAITING_LIMIT: usize = 1024;
/// Publications of a channel whose confirm is awaited.
const IN_FLIGHT_LIMIT: usize = 256;
/// Time for a publication to be written, a reconnect or an alarm of the broker included. Once it is written its confirm
/// is awaited for as long as its channel lives, through any alarm: sent again, it would come twice. Also where the
/// channel confirms others meanwhile: giving that one up would take its channel away from those that are in flight
/// beside it, and would bring the stuck queue another copy with each try.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Time without confirms, of a broker that takes messages, before a channel is asked whether it answers.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Time for its answer, once a new channel has answered: else it is replaced. RabbitMQ's channel waits up to 65 s for a
/// quorum queue that it meets for the first time (`rabbit_fifo_client:enqueue`), and does nothing else in that time:
/// for example with 3.10, for a queue that is opened while a killed node recovers.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Time for a confirm on a channel that answers, while none comes for any other message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);
/// Interval for checking that.
const LOOK: Duration = Duration::from_secs(1);
/// Exchanges with a channel of their own; messages for any further one go alone.
const EXCHANGES_LIMIT: usize = 32;
/// Routes that are known to take messages; those of any further one go alone.
const PROVEN_LIMIT: usize = 4096;
/// Channels for messages that go alone.
const LANES: usize = 4;

struct Order {
    outgoing: Arc<Outgoing>,
    answer: oneshot::Sender<Landing>,
    /// Told when the publication is about to be written: from then on its fate is unknown until confirmed. If nobody
    /// listens any more, it is not written.
    written: oneshot::Sender<()>,
}

/// A channel for messages that go alone.
struct Lane {
    orders: mpsc::Sender<Order>,
    /// Messages that wait for it, and the one on its way.
    busy: AtomicUsize,
}

/// One of a lane's messages, until it has landed or nobody waits for it.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands publications to the tasks of the channels.
pub(super) struct Publisher {
    link: Link,
    runtime: Handle,
    exchanges: Mutex<HashMap<String, mpsc::Sender<Order>>>,
    lanes: Vec<Lane>,
    /// Exchanges that messages name, with routing keys, whose last message was not refused.
    proven: Mutex<HashSet<(String, String)>>,
    /// Bytes of the largest body that the broker has taken.
    largest: AtomicUsize,
}

impl Publisher {
    /// Starts the tasks on the current runtime; they end with the link.
    pub(super) fn start(link: Link) -> Self {
        let runtime = Handle::current();
        let lanes = (0..LANES)
            .map(|_| Lane {
                orders: channel_task(&runtime, &link, 1),
                busy: AtomicUsize::new(0),
            })
            .collect();
        Self {
            link,
            runtime,
            exchanges: Mutex::default(),
            lanes,
            proven: Mutex::default(),
            largest: AtomicUsize::new(0),
        }
    }

    /// Publishes, and waits for the broker's answer. Dropped before it is written, it is not published.
    /// `own`: the exchange is one that this process publishes to by itself, not one that a message names.
    pub(super) async fn publish(
        &self,
        outgoing: Arc<Outgoing>,
        own: bool,
    ) -> Result<(), PublishError> {
        let largest = self.largest.load(Ordering::Relaxed);
        let shared = if (own || self.is_proven(&outgoing)) && !is_suspect(&outgoing, largest) {
            self.exchange(outgoing.exchange.as_str())
        } else {
            None
        };
        let landing = match shared {
            Some(orders) => match order(&orders, &outgoing).await? {
                Landing::Suspected => self.alone(&outgoing).await?,
                landing => landing,
            },
            None => self.alone(&outgoing).await?,
        };
        if !own {
            self.note(&outgoing, matches!(landing, Landing::Known(_)));
        }
        let (exchange, routing_key) = outgoing.route();
        match landing {
            Landing::Known(Fate::Taken) => {
                self.largest
                    .fetch_max(outgoing.body.len(), Ordering::Relaxed);
                Ok(())
            }
            Landing::Known(Fate::Returned) => Err(PublishError::Unroutable {
                exchange,
                routing_key,
            }),
            Landing::Known(Fate::Nacked) => Err(PublishError::Nacked {
                exchange,
                routing_key,
            }),
            Landing::Refused(answer) => Err(PublishError::Refused {
                exchange,
                routing_key,
                answer,
            }),
            // A lane has one in flight, which its refusal is meant for.
            Landing::Suspected => Err(not_confirmed("the channel was closed for another message")),
        }
    }

    fn is_proven(&self, outgoing: &Outgoing) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.contains(&outgoing.route())
    }

    fn note(&self, outgoing: &Outgoing, proven: bool) {
        let mut routes = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if !proven {
            routes.remove(&outgoing.route());
        } else if routes.len() < PROVEN_LIMIT {
            routes.insert(outgoing.route());
        }
    }

    /// The channel of an exchange, unless there are too many.
    fn exchange(&self, exchange: &str) -> Option<mpsc::Sender<Order>> {
        let mut exchanges = self
            .exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = exchanges.get(exchange) {
            return Some(orders.clone());
        }
        if exchanges.len() >= EXCHANGES_LIMIT {
            return None;
        }
        let orders = channel_task(&self.runtime, &self.link, IN_FLIGHT_LIMIT);
        exchanges.insert(exchange.to_owned(), orders.clone());
        Some(orders)
    }

    /// Over the lane with the fewest messages, so that none waits for one that is stuck while another is idle.
    async fn alone(&self, outgoing: &Arc<Outgoing>) -> Result<Landing, PublishError> {
        let lanes = self.lanes.iter();
        let Some(lane) = lanes.min_by_key(|lane| lane.busy.load(Ordering::Relaxed)) else {
            return Err(BrokerError::Closed.into());
        };
        lane.busy.fetch_add(1, Ordering::Relaxed);
        let _done = Busy(&lane.busy);
        order(&lane.orders, outgoing).await
    }
}

/// True if the broker may refuse a message for what it is, apart from its exchange: for a body larger than any it has
/// taken (`max_message_size`), a user id, or a `reply_to` that means something to RabbitMQ.
fn is_suspect(outgoing: &Outgoing, largest: usize) -> bool {
    let reply_to = outgoing.properties.reply_to().as_ref();
    outgoing.body.len() > largest
        || outgoing.properties.user_id().is_some()
        || reply_to.is_some_and(|reply_to| reply_to.as_str().starts_with("amq."))
}

fn channel_task(runtime: &Handle, link: &Link, in_flight: usize) -> mpsc::Sender<Order> {
    let (orders, waiting) = mpsc::channel(WAITING_LIMIT);
    runtime.spawn(run(link.clone(), waiting, in_flight));
    orders
}

async fn order(
    orders: &mpsc::Sender<Order>,
    outgoing: &Arc<Outgoing>,
) -> Result<Landing, PublishError> {
    let (answer, landing) = oneshot::channel();
    let (written, mut was_written) = oneshot::channel();
    let order = Order {
        outgoing: Arc::clone(outgoing),
        answer,
        written,
    };
    let writing = async {
        orders.send(order).await.ok()?;
        (&mut was_written).await.ok()
    };
    match timeout(WRITE_LIMIT, writing).await {
        Ok(Some(())) => {}
        Ok(None) => return Err(BrokerError::Closed.into()),
        Err(_) => {
            was_written.close();
            if was_written.try_recv().is_err() {
                return Err(PublishError::OutOfReach {
                    waited: WRITE_LIMIT,
                });
            }
        }
    }
    landing
        .await
        .map_err(|_| not_confirmed("its channel ended before the confirm came"))
}

fn not_confirmed(reason: impl Into<String>) -> PublishError {
    PublishError::NotConfirmed {
        reason: reason.into(),
    }
}

async fn run(link: Link, mut waiting: mpsc::Receiver<Order>, in_flight: usize) {
    let mut backoff = BACKOFF;
    let mut said = Said::default();
    while let Some(live) = link.live().await {
        match limited(confirm_channel(&live)).await {
            Ok(channel) => {
                said = Said::default();
                match serve(&channel, &live, &mut waiting, in_flight).await {
                    Ended::Unused => return,
                    Ended::Refused => {
                        backoff.reset();
                        continue;
                    }
                    Ended::Lost => backoff.reset(),
                    // The pauses grow: what the broker has of each such channel may come twice.
                    Ended::Silent(reason) => {
                        warn!(
                            reason,
                            "the broker confirms nothing on a channel: another one is opened"
                        );
                        channel::close(&channel).await;
                    }
                }
            }
            Err(error) if said.is_news(&error) => warn!(%error, "can't publish"),
            Err(_) => {}
        }
        sleep(backoff.jittered(fastrand::f64())).await;
    }
}

async fn confirm_channel(live: &Live) -> Result<Channel, BrokerError> {
    let channel = live.channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(|error| BrokerError::Lost {
            reason: error.to_string(),
        })?;
    Ok(channel)
}

async fn serve(
    channel: &Channel,
    live: &Live,
    waiting: &mut mpsc::Receiver<Order>,
    in_flight: usize,
) -> Ended {
    let mut flights = Flights::new();
    let mut look = interval(LOOK);
    let mut question = Fuse::<BoxFuture<'_, bool>>::terminated();
    loop {
        tokio::select! {
            biased;
            landed = flights.landed_before(&live.gone) => match landed {
                Some(fallen) if fallen.is_empty() => {}
                fallen => return flights.end(fallen.unwrap_or_default()),
            },
            order = waiting.recv(), if flights.has_room(in_flight) => {
                let mut next = order;
                if next.is_none() {
                    return Ended::Unused;
                }
                while let Some(Order { outgoing, answer, written }) = next {
                    if written.send(()).is_ok() {
                        flights.start(channel, outgoing, answer);
                    }
                    next = if flights.has_room(in_flight) { waiting.try_recv().ok() } else { None };
                }
            }
            answered = &mut question => {
                if !answered {
                    flights.end(Vec::new());
                    return Ended::Silent("it answers nothing, and others answer");
                }
                flights.answered = Instant::now();
            }
            now = look.tick() => {
                if live.blocked() {
                    flights.heard = Some(now);
                }
                let (unconfirmed, unanswered) = flights.silence(now);
                if unconfirmed > CONFIRM_LIMIT {
                    flights.end(Vec::new());
                    return Ended::Silent("it answers, and has confirmed nothing for too long");
                }
                if unanswered > SILENCE_LIMIT && question.is_terminated() {
                    question = answers(channel, live).boxed().fuse();
                }
            }
        }
    }
}

/// True if the channel answers, or if a new one does not either, since then it is not the channel's fault.
async fn answers(channel: &Channel, live: &Live) -> bool {
    // Any question that changes nothing will do: nobody consumes here.
    let mut own = pin!(channel.basic_qos(1, BasicQosOptions::default()));
    let other = async {
        let channel = live.channel().await?;
        channel::close(&channel).await;
        Ok::<_, BrokerError>(())
    };
    tokio::select! {
        biased;
        // The flights learn of its error as well.
        _ = &mut own => true,
        opened = other => opened.is_err() || timeout(ANSWER_LIMIT, own).await.is_ok(),
    }
}

#[cfg(test)]
mod tests;
