//! Publishes on one confirm channel: many publications in flight, one task that writes them, since lapin
//! tells the confirms of a channel apart only by the order of its publishing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::confirms::{Confirm, Confirms, Fate};
use super::convert::Outgoing;
use super::supervise::{Link, Live, Pauses};
use crate::{BrokerError, PublishError};

/// Publications that wait to be written.
const WAITING_LIMIT: usize = 1024;
/// Publications whose confirm is awaited.
const IN_FLIGHT_LIMIT: usize = 256;
/// How long a publication may take in all, a reconnect or an alarm of the broker included.
const PUBLISH_LIMIT: Duration = Duration::from_secs(30);

/// What a return is matched by: message id, exchange, routing key.
type Key = (String, String, String);

struct Order {
    outgoing: Arc<Outgoing>,
    answer: oneshot::Sender<Fate>,
    /// Told when the publication is about to be written: from then on its fate is unknown until confirmed.
    written: oneshot::Sender<()>,
}

/// Hands publications to the task.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::Sender<Order>);

impl Publisher {
    /// Starts the task on the current runtime; it ends with the link.
    pub(super) fn start(link: Link) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING_LIMIT);
        tokio::spawn(run(link, waiting));
        Self(orders)
    }

    /// Publishes, and waits for the confirm. Dropped before it is written, it is not published.
    pub(super) async fn publish(&self, outgoing: Arc<Outgoing>) -> Result<(), PublishError> {
        let (answer, fate) = oneshot::channel();
        let (written, mut was_written) = oneshot::channel();
        let asked = async {
            let order = Order {
                outgoing: Arc::clone(&outgoing),
                answer,
                written,
            };
            if self.0.send(order).await.is_err() {
                return Err(PublishError::from(BrokerError::Closed));
            }
            Ok(fate.await.ok())
        };
        let fate = match timeout(PUBLISH_LIMIT, asked).await {
            Ok(Ok(Some(fate))) => fate,
            Ok(Ok(None)) if was_written.try_recv().is_ok() => {
                return Err(not_confirmed(
                    "the channel was closed before the confirm came",
                ));
            }
            Ok(Ok(None)) => return Err(BrokerError::Closed.into()),
            Ok(Err(error)) => return Err(error),
            Err(_) if was_written.try_recv().is_ok() => {
                return Err(not_confirmed(format!(
                    "no confirm came within {} s",
                    PUBLISH_LIMIT.as_secs()
                )));
            }
            Err(_) => {
                return Err(PublishError::OutOfReach {
                    waited: PUBLISH_LIMIT,
                });
            }
        };
        let exchange = outgoing.exchange.to_string();
        let routing_key = outgoing.routing_key.to_string();
        match fate {
            Fate::Taken => Ok(()),
            Fate::Returned => Err(PublishError::Unroutable {
                exchange,
                routing_key,
            }),
            Fate::Nacked => Err(PublishError::Nacked {
                exchange,
                routing_key,
            }),
        }
    }
}

fn not_confirmed(reason: impl Into<String>) -> PublishError {
    PublishError::NotConfirmed {
        reason: reason.into(),
    }
}

async fn run(link: Link, mut waiting: mpsc::Receiver<Order>) {
    let mut pauses = Pauses::default();
    while let Some(live) = link.live().await {
        match confirm_channel(&live).await {
            Ok(channel) => {
                pauses = Pauses::default();
                match serve(&channel, &live.gone, &mut waiting).await {
                    Ended::Unused => return,
                    Ended::Lost => {}
                }
            }
            Err(error) => warn!(%error, "can't publish"),
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
    /// The channel is gone. Whoever waits for a confirm learns it by the drop of its order.
    Lost,
    /// Nobody publishes any more.
    Unused,
}

async fn serve(
    channel: &Channel,
    gone: &CancellationToken,
    waiting: &mut mpsc::Receiver<Order>,
) -> Ended {
    let mut flights = Flights {
        flying: Vec::with_capacity(IN_FLIGHT_LIMIT),
        confirms: Confirms::new(),
    };
    let mut orders = Vec::with_capacity(IN_FLIGHT_LIMIT);
    loop {
        let room = IN_FLIGHT_LIMIT.saturating_sub(flights.flying.len());
        tokio::select! {
            biased;
            () = gone.cancelled() => return Ended::Lost,
            landed = flights.landed() => if landed.is_err() {
                return Ended::Lost;
            },
            count = waiting.recv_many(&mut orders, room), if room > 0 => {
                if count == 0 {
                    return Ended::Unused;
                }
                for order in orders.drain(..) {
                    flights.start(channel, order);
                }
            }
        }
    }
}

struct Flight {
    key: Key,
    answer: oneshot::Sender<Fate>,
    confirm: BoxFuture<'static, lapin::Result<Confirmation>>,
}

struct Flights {
    flying: Vec<Flight>,
    confirms: Confirms<Key, oneshot::Sender<Fate>>,
}

impl Flights {
    fn start(&mut self, channel: &Channel, order: Order) {
        if order.answer.is_closed() {
            return;
        }
        // Ignored where its publisher has gone this very moment.
        let _ = order.written.send(());
        let outgoing = order.outgoing;
        let key = (
            outgoing.message_id.clone(),
            outgoing.exchange.to_string(),
            outgoing.routing_key.to_string(),
        );
        let channel = channel.clone();
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
        self.flying.push(Flight {
            key,
            answer: order.answer,
            confirm,
        });
    }

    /// Waits until confirms have come, and answers what is certain by them. An error is the channel's.
    async fn landed(&mut self) -> lapin::Result<()> {
        poll_fn(|context| {
            let mut any = false;
            loop {
                let before = self.flying.len();
                self.pass(context)?;
                let found = self.flying.len() < before;
                any |= found;
                for (answer, fate) in self.confirms.pass_done(self.flying.len()) {
                    // One who no longer waits does not need to know.
                    let _ = answer.send(fate);
                }
                if !found {
                    return if any {
                        Poll::Ready(Ok(()))
                    } else {
                        Poll::Pending
                    };
                }
            }
        })
        .await
    }

    fn pass(&mut self, context: &mut Context<'_>) -> lapin::Result<()> {
        let mut index = 0;
        while let Some(flight) = self.flying.get_mut(index) {
            match Pin::as_mut(&mut flight.confirm).poll(context)? {
                Poll::Pending => index += 1,
                Poll::Ready(confirmation) => {
                    let Flight { key, answer, .. } = self.flying.remove(index);
                    self.confirms.found(key, answer, confirm(confirmation));
                }
            }
        }
        Ok(())
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
