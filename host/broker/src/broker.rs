use std::time::Duration;

use futures::future::BoxFuture;
use petiole_celery::Publication;

use crate::{BrokerError, Deliveries, PublishError};

/// A message broker. Connections are supervised inside: a lost one is made anew, to the next of the
/// URLs, and consumers go on; what was delivered before and is not settled can't be settled any more.
pub trait Broker: Send + Sync {
    /// Declares a queue as Celery does (durable, classic, bound to the direct exchange of its name);
    /// one that exists is taken as it is, whatever its type and arguments.
    fn declare<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>>;

    /// Consumes from queues that exist. A queue that is deleted later is declared again.
    fn consume<'a>(
        &'a self,
        queues: &'a [String],
        terms: Terms,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>>;

    /// Looks through a queue that exists: its messages are fetched one by one, each when the one before it has been
    /// taken, so that no more of them are in memory; none after the last one that is ready. What was taken is held
    /// until it is settled.
    fn look_through<'a>(&'a self, queue: &'a str)
    -> BoxFuture<'a, Result<Deliveries, BrokerError>>;

    /// Publishes, and waits until the broker has taken the message. `not_before` is kept by the broker, to the second.
    /// No queue is declared by it: a mandatory message that no queue takes is unroutable. A message that the broker
    /// refuses costs no other message its confirm. Headers that the broker added on an earlier journey (`x-death` and
    /// the like) are not sent on, nor are `CC` and `BCC`, which were obeyed when the message was first published.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<(), PublishError>>;

    /// The number of messages ready in a queue; none where there is no such queue.
    fn length<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<Option<u64>, BrokerError>>;

    /// Removes the messages that are ready in a queue, and returns how many there were.
    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>>;

    /// True if the connections are up and the broker takes messages: readiness follows it.
    fn connected(&self) -> bool;

    /// Bytes of messages that consumers were delivered and that are not settled.
    fn held(&self) -> u64;

    /// Closes the connections; what is unsettled goes back to its queue.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Terms on which a consumer takes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Unsettled deliveries for each queue (0 counts as 1).
    pub prefetch: u16,
    /// Time for which a delivery may be held, where the broker asks (RabbitMQ's `consumer_timeout`); none for the
    /// broker's own.
    pub held: Option<Duration>,
}

impl Terms {
    /// This prefetch, with each delivery held as long as the broker itself says.
    pub fn prefetch(prefetch: u16) -> Self {
        Self {
            prefetch,
            held: None,
        }
    }
}

/// Bytes of memory for messages where a process has no reason for another number: it sends, or looks through a queue.
pub const MESSAGES: usize = 64 * 1024 * 1024;
