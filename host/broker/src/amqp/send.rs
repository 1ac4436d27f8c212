//! Sends a message: now, by the exchange of its queue's name or the default one, or later.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use petiole_celery::{Destination, Message, Publication};
use uuid::Uuid;

use super::client::Amqp;
use super::convert::Outgoing;
use super::reply_code::{ACCESS_REFUSED, NOT_FOUND};
use super::supervise::Live;
use super::{channel, convert, declare, delay, guard, levels};
use crate::rules::delay_seconds;
use crate::{BrokerError, PublishError};

/// The exchange of a queue's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnExchange {
    Usable,
    /// The broker refused it the last time: tried if the default one is refused too, as the permission may be back.
    Refused,
}

/// Result of sending a message by the exchange of its queue's name.
enum ByOwn {
    Taken,
    /// The default exchange is left to try.
    Refused(PublishError),
    NoQueue,
}

impl Amqp {
    /// Now, or later by the levels of the delayed delivery.
    pub(super) async fn publish_one(&self, publication: Publication) -> Result<(), PublishError> {
        let Publication {
            destination,
            message,
            mandatory,
            not_before,
        } = publication;
        let delay = match not_before {
            Some(until) => delay_seconds(until, Timestamp::now())?,
            None => None,
        };
        match delay {
            Some(seconds) => self.publish_delayed(seconds, destination, message).await,
            None => self.publish_now(destination, message, mandatory).await,
        }
    }

    async fn publish_now(
        &self,
        to: Destination,
        message: Message,
        mandatory: bool,
    ) -> Result<(), PublishError> {
        let Destination {
            exchange,
            routing_key,
        } = to;
        if !mandatory || !exchange.is_empty() {
            let outgoing = Arc::new(self.outgoing(message, &exchange, &routing_key, mandatory)?);
            return match self.publisher.publish(outgoing, exchange.is_empty()).await {
                // As with a queue that is not there: whoever was to read it has gone.
                Err(PublishError::Refused { answer, .. })
                    if !mandatory && answer.code == NOT_FOUND =>
                {
                    Ok(())
                }
                other => other,
            };
        }
        self.publish_to_queue(&routing_key, message).await
    }

    /// By the queue's own exchange, else by the default one; in reverse if the broker last refused the queue's own.
    async fn publish_to_queue(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        let own = self.own_exchange(queue);
        let mut by_own = None;
        if own == Some(OwnExchange::Usable) {
            match self.publish_by_own_exchange(queue, message.clone()).await? {
                ByOwn::Taken => return Ok(()),
                not_taken => by_own = Some(not_taken),
            }
        }
        let again = own.map(|_| message.clone());
        let published = self.publish_by_default(queue, message).await;
        let Some(again) = again.filter(|_| published.as_ref().is_err_and(is_forbidden)) else {
            return published;
        };
        // Least permissions have no default exchange: what counts is what the queue's own comes to.
        let by_own = match by_own {
            Some(by_own) => by_own,
            None => self.publish_by_own_exchange(queue, again).await?,
        };
        match by_own {
            ByOwn::Taken => Ok(()),
            ByOwn::Refused(error) => Err(error),
            ByOwn::NoQueue => Err(PublishError::Unroutable {
                exchange: String::new(),
                routing_key: queue.to_owned(),
            }),
        }
    }

    async fn publish_by_default(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        let outgoing = Arc::new(self.outgoing(message, "", queue, true)?);
        self.publisher.publish(outgoing, true).await
    }

    /// Publishes by the exchange of the queue's name, which is made again if somebody has deleted it.
    async fn publish_by_own_exchange(
        &self,
        queue: &str,
        message: Message,
    ) -> Result<ByOwn, PublishError> {
        let outgoing = Arc::new(self.outgoing(message, queue, queue, true)?);
        let published = self.publisher.publish(Arc::clone(&outgoing), true).await;
        let published = match published {
            Err(error) if leads_nowhere(&error) => {
                let bound = self
                    .operate(|live| async move { declare::bind_own_exchange(&live, queue).await });
                match bound.await {
                    Ok(()) => self.publisher.publish(outgoing, true).await,
                    // The queue itself: its consumer may declare it again.
                    Err(error) if channel::is_missing(&error) => return Ok(ByOwn::NoQueue),
                    Err(error) => Err(error.into()),
                }
            }
            published => published,
        };
        match published {
            Ok(()) => {
                self.note_own_exchange(queue, OwnExchange::Usable);
                Ok(ByOwn::Taken)
            }
            Err(error) if is_forbidden(&error) => {
                self.note_own_exchange(queue, OwnExchange::Refused);
                Ok(ByOwn::Refused(error))
            }
            Err(error @ PublishError::Refused { .. }) => Ok(ByOwn::Refused(error)),
            Err(PublishError::Broker(error @ BrokerError::Refused { .. })) => {
                self.note_own_exchange(queue, OwnExchange::Refused);
                Ok(ByOwn::Refused(error.into()))
            }
            Err(error) => Err(error),
        }
    }

    fn outgoing(
        &self,
        message: Message,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
    ) -> Result<Outgoing, PublishError> {
        let outgoing = convert::outgoing(message, exchange, routing_key, mandatory, || {
            Uuid::now_v7().to_string()
        })?;
        guard::fits(&outgoing.properties, self.publishing.frame_max())?;
        Ok(outgoing)
    }

    async fn publish_delayed(
        &self,
        seconds: u64,
        to: Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        if !to.exchange.is_empty() {
            return Err(PublishError::Undelayable {
                exchange: to.exchange,
            });
        }
        let queue = to.routing_key;
        let outgoing = Arc::new(self.outgoing(
            message,
            delay::ENTRY,
            &delay::routing_key(seconds, &queue),
            true,
        )?);
        self.prepare_delay(&queue).await?;
        match self.publisher.publish(Arc::clone(&outgoing), true).await {
            Err(error) if leads_nowhere(&error) => {
                self.forget_levels().await;
                self.prepare_delay(&queue).await?;
                self.publisher.publish(outgoing, true).await
            }
            other => other,
        }
    }

    /// Declares what a delayed message for a queue needs; the queue itself must exist.
    async fn prepare_delay(&self, queue: &str) -> Result<(), PublishError> {
        let exists = self
            .operate(|live| async move {
                let live = &*live;
                // Each time: a queue that somebody has deleted and declared again has lost its binding.
                let bound = delay::bind(live, queue).await;
                let missing = bound.as_ref().is_err_and(channel::is_missing);
                if !missing {
                    bound?;
                } else if declare::length(live, queue).await?.is_none() {
                    return Ok(false);
                } else {
                    self.forget_levels().await;
                }
                self.declare_levels(live).await?;
                if missing {
                    delay::bind(live, queue).await?;
                }
                Ok(true)
            })
            .await?;
        if exists {
            Ok(())
        } else {
            Err(PublishError::Unroutable {
                exchange: String::new(),
                routing_key: queue.to_owned(),
            })
        }
    }

    /// Declares them once for each connection, as long as they are found.
    async fn declare_levels(&self, live: &Live) -> Result<(), BrokerError> {
        let mut levels = self.levels.lock().await;
        if *levels != Some(live.generation) {
            levels::declare(live).await?;
            *levels = Some(live.generation);
        }
        Ok(())
    }

    async fn forget_levels(&self) {
        *self.levels.lock().await = None;
    }

    fn own_exchange(&self, queue: &str) -> Option<OwnExchange> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(queue).copied()
    }

    fn note_own_exchange(&self, queue: &str, exchange: OwnExchange) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.get_mut(queue) {
            *known = exchange;
        }
    }
}

fn is_forbidden(error: &PublishError) -> bool {
    matches!(error, PublishError::Refused { answer, .. } if answer.code == ACCESS_REFUSED)
}

/// True if the exchange, or a binding of it, is not there: somebody has deleted what was declared.
fn leads_nowhere(error: &PublishError) -> bool {
    match error {
        PublishError::Unroutable { .. } => true,
        PublishError::Refused { answer, .. } => answer.code == NOT_FOUND,
        _ => false,
    }
}
