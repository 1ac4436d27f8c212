use std::fmt;
use std::time::Duration;

/// The broker is out of reach, or refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The URL can't be used.
    #[error("broker url {url:?}: {reason}")]
    Url {
        /// Without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No broker of the URL list lets us in.
    #[error("no broker answers: {}", join(.failures))]
    Unreachable {
        /// The last failure of each URL.
        failures: Vec<Unanswered>,
    },
    /// The broker refuses an operation on a queue.
    #[error("queue {queue:?}: {reason}")]
    Queue {
        /// The queue.
        queue: String,
        /// The broker's reply.
        reason: String,
    },
    /// There is no connection, or it was lost before the broker answered.
    #[error("no answer from the broker: {reason}")]
    Lost {
        /// What is known of it.
        reason: String,
    },
    /// [`Broker::close`](crate::Broker::close) was called.
    #[error("the broker is closed")]
    Closed,
    /// The embedded broker's file fails.
    #[error("broker file {path:?}: {reason}")]
    Database {
        /// The file.
        path: String,
        /// What SQLite says.
        reason: String,
    },
}

/// One URL of the list, and why it can't be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Without its password.
    pub url: String,
    /// What came instead of a connection.
    pub reason: String,
    /// What to look at.
    pub advice: &'static str,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.url, self.reason, self.advice)
    }
}

fn join(failures: &[Unanswered]) -> String {
    failures
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// A message is not known to be with the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue is bound for it.
    #[error("no queue takes a message for exchange {exchange:?}, routing key {routing_key:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker refused to take it: a full queue (`reject-publish`), or one that can't be written.
    #[error(
        "the broker refused a message for exchange {exchange:?}, routing key {routing_key:?}: is the queue full?"
    )]
    Nacked {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// It was sent, and the connection was lost before the confirm: it may be with the broker or not.
    #[error("not confirmed, it may have arrived or not: {reason}")]
    NotConfirmed {
        /// What is known of it.
        reason: String,
    },
    /// It was not sent: no connection, or a broker that takes no messages, for too long.
    #[error("the broker took no messages for {} s (connection lost, or a memory or disk alarm)", .waited.as_secs())]
    OutOfReach {
        /// How long it was tried.
        waited: Duration,
    },
    /// AMQP can't carry it.
    #[error("amqp can't carry the message: {reason}")]
    Invalid {
        /// What is wrong, and where.
        reason: String,
    },
    /// Its body is too large.
    #[error("a body of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// Its time is too far away to be held back that long.
    #[error("a delay of {seconds} s is over the limit of {limit} s")]
    TooLate {
        /// Seconds from now.
        seconds: u64,
        /// Seconds.
        limit: u64,
    },
    /// Only a message for a queue can be held back.
    #[error("a message for exchange {exchange:?} can't be delayed: send it to a queue")]
    Undelayable {
        /// The exchange.
        exchange: String,
    },
    /// The broker failed otherwise; the message was not sent.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
