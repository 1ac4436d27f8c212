//! Publishes on confirm channels: many publications in flight, one task for each channel that writes them,
//! since lapin tells the confirms of a channel apart only by the order of its publishing.
//!
//! A refusal closes the channel that it comes on, and leaves what is in flight beside it unconfirmed. So each
//! exchange has a channel of its own, and a [suspect](is_suspect) goes alone, one at a time, over one of a few
//! others: whatever the broker says there is said of it. So does the first message that names its exchange itself,
//! until that exchange has taken one with this routing key. What was in flight with others on a channel that was
//! closed by a refusal is sent again alone, so that only the one that is meant is refused.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use lapin::options::{BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::confirms::{Confirm, Confirms, Fate};
use super::convert::Outgoing;
use super::supervise::{Link, Live, Pauses, Said};
use super::{declare, limited};
use crate::{Answer, BrokerError, PublishError};

/// Publications that wait to be written to a channel.
const WAITING_LIMIT: usize = 1024;
/// Publications of a channel whose confirm is awaited.
const IN_FLIGHT_LIMIT: usize = 256;
/// Bytes of their bodies below which one more is written: what a slow link has to carry before a confirm can come.
const BYTES_LIMIT: usize = 4 << 20;
/// How long a publication may wait to be written, a reconnect or an alarm of the broker included. Once it is
/// written its confirm is awaited for as long as its channel lives, through any alarm: sent again, it would come
/// twice.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long a channel may confirm nothing, of a broker that takes messages, before it is asked whether it answers.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// How long it may be silent then, once a new channel has answered: else it is replaced. RabbitMQ's channel waits
/// up to 65 s for a quorum queue that it meets for the first time (`rabbit_fifo_client:enqueue`), and does nothing
/// else in that time: for example with 3.10 that is opened while a killed node recovers.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a confirm is awaited on a channel that answers, while none comes for any other message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Exchanges with a channel of their own; messages for any further one go alone.
const EXCHANGES_LIMIT: usize = 32;
/// Routes that are known to take messages; those of any further one go alone.
const PROVEN_LIMIT: usize = 4096;
/// Channels for messages that go alone.
const LANES: usize = 4;

/// What a return is matched by: message id, exchange, routing key.
type Key = (String, String, String);

/// What became of a publication that was written.
enum Landing {
    Known(Fate),
    /// The broker closed the channel for it, and for nothing else.
    Refused(Answer),
    /// The broker closed the channel for it or for one of its neighbours.
    Suspected,
}

struct Order {
    outgoing: Arc<Outgoing>,
    answer: oneshot::Sender<Landing>,
    /// Told when the publication is about to be written: from then on its fate is unknown until confirmed.
    /// Where nobody listens any more it is not written.
    written: oneshot::Sender<()>,
}

/// Hands publications to the tasks of the channels.
pub(super) struct Publisher {
    link: Link,
    runtime: Handle,
    exchanges: Mutex<HashMap<String, mpsc::Sender<Order>>>,
    lanes: Vec<mpsc::Sender<Order>>,
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
            .map(|_| channel_task(&runtime, &link, 1))
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
                Landing::Suspected => order(self.lane(), &outgoing).await?,
                landing => landing,
            },
            None => order(self.lane(), &outgoing).await?,
        };
        if !own {
            self.note(&outgoing, matches!(landing, Landing::Known(_)));
        }
        let exchange = outgoing.exchange.to_string();
        let routing_key = outgoing.routing_key.to_string();
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
        proven.contains(&route(outgoing))
    }

    fn note(&self, outgoing: &Outgoing, proven: bool) {
        let mut routes = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if !proven {
            routes.remove(&route(outgoing));
        } else if routes.len() < PROVEN_LIMIT {
            routes.insert(route(outgoing));
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

    fn lane(&self) -> &mpsc::Sender<Order> {
        #[expect(clippy::indexing_slicing, reason = "as many as LANES")]
        &self.lanes[fastrand::usize(..LANES)]
    }
}

fn route(outgoing: &Outgoing) -> (String, String) {
    let Outgoing {
        exchange,
        routing_key,
        ..
    } = outgoing;
    (exchange.to_string(), routing_key.to_string())
}

/// Whether the broker may refuse a message for what it is, apart from its exchange: for a body larger than any
/// it has taken (`max_message_size`), a user id, or a `reply_to` that means something to RabbitMQ.
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
    let mut pauses = Pauses::default();
    let mut said = Said::default();
    while let Some(live) = link.live().await {
        match limited(confirm_channel(&live)).await {
            Ok(channel) => {
                said = Said::default();
                match serve(&channel, &live, &mut waiting, in_flight).await {
                    Ended::Unused => return,
                    Ended::Refused => {
                        pauses = Pauses::default();
                        continue;
                    }
                    Ended::Lost => pauses = Pauses::default(),
                    // The pauses grow: what the broker has of each such channel may come twice.
                    Ended::Silent(reason) => {
                        warn!(
                            reason,
                            "the broker confirms nothing on a channel: another one is opened"
                        );
                        declare::close(&channel).await;
                    }
                }
            }
            Err(error) if said.is_news(&error) => warn!(%error, "can't publish"),
            Err(_) => {}
        }
        sleep(pauses.next()).await;
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

enum Ended {
    /// The channel is gone with its connection. Whoever waits for a confirm learns it by the drop of its order.
    Lost,
    /// The broker closed the channel for one of its messages.
    Refused,
    /// The broker takes messages, and confirms none here. It may have those in flight or not.
    Silent(&'static str),
    /// Nobody publishes any more.
    Unused,
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
                while let Some(order) = next {
                    flights.start(channel, order);
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

/// Whether the channel answers; true as well where a new one does not, since then it is not the channel's fault.
async fn answers(channel: &Channel, live: &Live) -> bool {
    // Any question does that changes nothing: nobody consumes here.
    let mut own = pin!(channel.basic_qos(1, BasicQosOptions::default()));
    let other = async {
        let channel = live.channel().await?;
        declare::close(&channel).await;
        Ok::<_, BrokerError>(())
    };
    tokio::select! {
        biased;
        // What it fails with the flights learn as well.
        _ = &mut own => true,
        opened = other => opened.is_err() || timeout(ANSWER_LIMIT, own).await.is_ok(),
    }
}

struct Flight {
    key: Key,
    /// Bytes of its body.
    size: usize,
    /// When lapin got it.
    written: Instant,
    answer: oneshot::Sender<Landing>,
    confirm: BoxFuture<'static, lapin::Result<Confirmation>>,
}

/// A flight that ended with its channel.
struct Fallen {
    answer: oneshot::Sender<Landing>,
    error: lapin::Error,
}

struct Flights {
    flying: Vec<Flight>,
    confirms: Confirms<Key, oneshot::Sender<Landing>>,
    /// Bytes of all that is in flight.
    size: usize,
    /// When the last confirm came, or an alarm of the broker was last seen; none as long as the channel is new.
    heard: Option<Instant>,
    /// When the channel last answered a question.
    answered: Instant,
}

impl Flights {
    fn new() -> Self {
        Self {
            flying: Vec::new(),
            confirms: Confirms::new(),
            size: 0,
            heard: None,
            answered: Instant::now(),
        }
    }

    /// One at first: a channel that is silent from the beginning leaves no more in doubt.
    fn has_room(&self, in_flight: usize) -> bool {
        let in_flight = if self.heard.is_none() { 1 } else { in_flight };
        self.flying.len() < in_flight && self.size < BYTES_LIMIT
    }

    fn start(&mut self, channel: &Channel, order: Order) {
        if order.written.send(()).is_err() {
            return;
        }
        let outgoing = order.outgoing;
        let (exchange, routing_key) = route(&outgoing);
        let key = (outgoing.message_id.clone(), exchange, routing_key);
        let channel = channel.clone();
        let size = outgoing.body.len();
        let confirm = Box::pin(async move {
            let options = BasicPublishOptions {
                mandatory: outgoing.mandatory,
                immediate: false,
            };
            let Outgoing {
                exchange,
                routing_key,
                body,
                properties,
                ..
            } = &*outgoing;
            channel
                .basic_publish(
                    exchange.clone(),
                    routing_key.clone(),
                    options,
                    body,
                    properties.clone(),
                )
                .await?
                .await
        });
        self.size += size;
        self.flying.push(Flight {
            key,
            size,
            written: Instant::now(),
            answer: order.answer,
            confirm,
        });
    }

    /// For how long confirms have been awaited and none has come, and for how much of that no answer either.
    fn silence(&self, now: Instant) -> (Duration, Duration) {
        let Some(oldest) = self.flying.iter().map(|flight| flight.written).min() else {
            return (Duration::ZERO, Duration::ZERO);
        };
        let since = self.heard.map_or(oldest, |heard| oldest.max(heard));
        (
            now.duration_since(since),
            now.duration_since(since.max(self.answered)),
        )
    }

    /// What has [landed](Self::landed), or none when the connection is gone. Confirms that came before its end count.
    async fn landed_before(&mut self, gone: &CancellationToken) -> Option<Vec<Fallen>> {
        tokio::select! {
            biased;
            fallen = self.landed() => Some(fallen),
            () = gone.cancelled() => None,
        }
    }

    /// Waits until confirms have come, and answers what is certain by them. None falls while the channel lives.
    async fn landed(&mut self) -> Vec<Fallen> {
        poll_fn(|context| {
            let mut any = false;
            loop {
                let before = self.flying.len();
                let fallen = self.pass(context);
                if !fallen.is_empty() {
                    return Poll::Ready(fallen);
                }
                let found = self.flying.len() < before;
                any |= found;
                answer(self.confirms.pass_done(self.flying.len()));
                if !found {
                    return if any {
                        Poll::Ready(Vec::new())
                    } else {
                        Poll::Pending
                    };
                }
            }
        })
        .await
    }

    /// Looks at every flight, so that a confirm that came before the channel's end counts.
    fn pass(&mut self, context: &mut Context<'_>) -> Vec<Fallen> {
        let mut fallen = Vec::new();
        let mut index = 0;
        while let Some(flight) = self.flying.get_mut(index) {
            match Pin::as_mut(&mut flight.confirm).poll(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(confirmation)) => {
                    let Flight {
                        key, size, answer, ..
                    } = self.flying.remove(index);
                    self.size -= size;
                    self.heard = Some(Instant::now());
                    self.confirms.found(key, answer, confirm(confirmation));
                }
                Poll::Ready(Err(error)) => {
                    let Flight { answer, .. } = self.flying.remove(index);
                    fallen.push(Fallen { answer, error });
                }
            }
        }
        fallen
    }

    /// The channel is gone: whoever waits is told what is known.
    fn end(mut self, fallen: Vec<Fallen>) -> Ended {
        answer(self.confirms.channel_gone());
        let refusal = fallen.iter().find_map(|one| declare::answer(&one.error));
        let Some(refusal) = refusal else {
            return Ended::Lost;
        };
        debug!(answer = %refusal, in_flight = fallen.len() + self.flying.len(), "a publishing channel was closed");
        let fallen = fallen.into_iter().map(|one| one.answer);
        let flying = self.flying.into_iter().map(|one| one.answer);
        let mut unanswered: Vec<_> = fallen.chain(flying).collect();
        // One who no longer waits does not need to know.
        match (unanswered.pop(), unanswered.is_empty()) {
            (Some(only), true) => drop(only.send(Landing::Refused(refusal))),
            (last, _) => {
                for one in unanswered.into_iter().chain(last) {
                    let _ = one.send(Landing::Suspected);
                }
            }
        }
        Ended::Refused
    }
}

fn answer(fates: Vec<(oneshot::Sender<Landing>, Fate)>) {
    for (answer, fate) in fates {
        // One who no longer waits does not need to know.
        let _ = answer.send(Landing::Known(fate));
    }
}

fn confirm(confirmation: Confirmation) -> Confirm<Key> {
    let nacked = confirmation.is_nack();
    let returned = confirmation.take_message().map(|message| {
        let id = message
            .properties
            .message_id()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        (
            id,
            message.exchange.to_string(),
            message.routing_key.to_string(),
        )
    });
    if nacked {
        Confirm::Nack(returned)
    } else {
        Confirm::Ack(returned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::pending;

    use lapin::BasicProperties;

    use super::*;

    fn flying(written: Instant, confirmed: bool) -> (Flights, oneshot::Receiver<Landing>) {
        let mut flights = Flights::new();
        let (answer, landing) = oneshot::channel();
        flights.flying.push(Flight {
            key: Key::default(),
            size: 0,
            written,
            answer,
            confirm: Box::pin(async move {
                if !confirmed {
                    pending::<()>().await;
                }
                Ok(Confirmation::Ack(None))
            }),
        });
        (flights, landing)
    }

    #[tokio::test]
    async fn a_confirm_that_came_before_the_connections_end_counts() {
        let (mut flights, landing) = flying(Instant::now(), true);
        let gone = CancellationToken::new();
        gone.cancel();
        while flights.landed_before(&gone).await.is_some() {}
        assert!(matches!(flights.end(Vec::new()), Ended::Lost));
        assert!(matches!(landing.await, Ok(Landing::Known(Fate::Taken))));
    }

    #[test]
    fn a_channel_is_silent_since_its_last_confirm_and_its_last_answer() {
        let start = Instant::now();
        let second = |count| start + Duration::from_secs(count);
        for (written, heard, answered, want) in [
            (1, None, 0, (99, 99)),
            (1, Some(5), 0, (95, 95)),
            (5, Some(1), 0, (95, 95)),
            (5, Some(1), 90, (95, 10)),
        ] {
            let (mut flights, _) = flying(second(written), false);
            flights.heard = heard.map(second);
            flights.answered = second(answered);
            let (unconfirmed, unanswered) = flights.silence(second(100));
            assert_eq!((unconfirmed.as_secs(), unanswered.as_secs()), want);
        }
        let nothing_awaited = Flights::new().silence(second(100));
        assert_eq!(nothing_awaited, (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn what_is_in_flight_is_bounded() {
        let (mut flights, _) = flying(Instant::now(), false);
        assert!(!flights.has_room(3), "more than one on a new channel");
        flights.heard = Some(Instant::now());
        assert!(flights.has_room(3));
        assert!(!flights.has_room(1));
        flights.size = BYTES_LIMIT;
        assert!(!flights.has_room(3));
    }

    #[test]
    fn a_message_that_may_be_refused_for_what_it_is_goes_alone() {
        let plain = BasicProperties::default;
        for (properties, size, want) in [
            (plain(), 10, false),
            (plain(), 11, true),
            (plain().with_reply_to("a-queue".into()), 1, false),
            (
                plain().with_reply_to("amq.rabbitmq.reply-to".into()),
                1,
                true,
            ),
            (
                plain().with_reply_to("amq.rabbitmq.reply-to.g1h2AA".into()),
                1,
                true,
            ),
            (plain().with_user_id("guest".into()), 1, true),
        ] {
            let outgoing = Outgoing {
                exchange: "".into(),
                routing_key: "q".into(),
                mandatory: true,
                properties,
                message_id: "m".to_owned(),
                body: vec![0; size],
            };
            assert_eq!(is_suspect(&outgoing, 10), want, "{outgoing:?}");
        }
    }
}
