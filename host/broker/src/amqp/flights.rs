//! Publications in flight on a channel: lapin tells the confirms of a channel apart only by the order of its
//! publishing, and a refusal closes the channel for all that is in flight on it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::channel;
use super::confirms::{Confirm, Confirms, Fate};
use super::convert::Outgoing;
use crate::Answer;

/// Bytes of their bodies below which one more is written: a slow link has to carry them before a confirm can come.
const BYTES_LIMIT: usize = 4 << 20;

/// Key that matches a return: message id, exchange, routing key.
type Key = (String, String, String);

/// Fate of a publication that was written.
pub(super) enum Landing {
    Known(Fate),
    /// The broker closed the channel for it, and for nothing else.
    Refused(Answer),
    /// The broker closed the channel for it or for one of its neighbours.
    Suspected,
}

/// Reason why a channel publishes no more.
pub(super) enum Ended {
    /// The channel is gone with its connection. Whoever waits for a confirm learns it by the drop of its order.
    Lost,
    /// The broker closed the channel for one of its messages.
    Refused,
    /// The broker takes messages, and confirms none here. It may have those in flight or not.
    Silent(&'static str),
    /// Nobody publishes any more.
    Unused,
}

struct Flight {
    key: Key,
    /// Bytes of its body.
    size: usize,
    /// Time at which lapin got it.
    written: Instant,
    answer: oneshot::Sender<Landing>,
    confirm: BoxFuture<'static, lapin::Result<Confirmation>>,
}

/// A flight that ended with its channel.
pub(super) struct Fallen {
    answer: oneshot::Sender<Landing>,
    error: lapin::Error,
}

pub(super) struct Flights {
    flying: Vec<Flight>,
    confirms: Confirms<Key, oneshot::Sender<Landing>>,
    /// Bytes of all that is in flight.
    size: usize,
    /// Time at which the last confirm came, or an alarm of the broker was last seen; none while the channel is new.
    pub(super) heard: Option<Instant>,
    /// Time at which the channel last answered a question.
    pub(super) answered: Instant,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            flying: Vec::new(),
            confirms: Confirms::new(),
            size: 0,
            heard: None,
            answered: Instant::now(),
        }
    }

    /// One at first: a channel that is silent from the beginning leaves no more in doubt.
    pub(super) fn has_room(&self, in_flight: usize) -> bool {
        let in_flight = if self.heard.is_none() { 1 } else { in_flight };
        self.flying.len() < in_flight && self.size < BYTES_LIMIT
    }

    /// Writes one more. Each confirm is the first that its channel has not given to another.
    pub(super) fn start(
        &mut self,
        channel: &Channel,
        outgoing: Arc<Outgoing>,
        answer: oneshot::Sender<Landing>,
    ) {
        let (exchange, routing_key) = outgoing.route();
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
            answer,
            confirm,
        });
    }

    /// Time for which confirms have been awaited and none has come, and the part of it without any answer either.
    pub(super) fn silence(&self, now: Instant) -> (Duration, Duration) {
        let Some(oldest) = self.flying.iter().map(|flight| flight.written).min() else {
            return (Duration::ZERO, Duration::ZERO);
        };
        let since = self.heard.map_or(oldest, |heard| oldest.max(heard));
        (
            now.duration_since(since),
            now.duration_since(since.max(self.answered)),
        )
    }

    /// As [`landed`](Self::landed), but none when the connection is gone. Confirms that came before its end count.
    pub(super) async fn landed_before(&mut self, gone: &CancellationToken) -> Option<Vec<Fallen>> {
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

    /// The channel is gone: answers whoever waits with what is known.
    pub(super) fn end(mut self, fallen: Vec<Fallen>) -> Ended {
        answer(self.confirms.channel_gone());
        let refusal = fallen.iter().find_map(|one| channel::answer(&one.error));
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
}
