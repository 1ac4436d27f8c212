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
        /// The fault in it.
        reason: String,
    },
    /// No broker of the URL list lets us in.
    #[error("no broker answers: {}", join(.failures))]
    Unreachable {
        /// The last failure of each URL.
        failures: Vec<Unanswered>,
    },
    /// No queue can have this name, or there is none.
    #[error("queue {queue:?}: {reason}")]
    Queue {
        /// The queue.
        queue: String,
        /// The fault in its name, or its absence.
        reason: String,
    },
    /// The broker refuses an operation on a queue.
    #[error("queue {queue:?}: the broker says {answer}")]
    Refused {
        /// The queue.
        queue: String,
        /// The broker's own words.
        answer: Answer,
    },
    /// There is no connection, or it was lost before the broker answered.
    #[error("no answer from the broker: {reason}")]
    Lost {
        /// The details that are known.
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
        /// SQLite's words.
        reason: String,
    },
}

impl BrokerError {
    pub(crate) fn no_such_queue(queue: &str) -> Self {
        Self::Queue {
            queue: queue.to_owned(),
            reason: "there is no such queue".to_owned(),
        }
    }

    /// True if the same operation will fail again however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Queue { .. } => true,
            Self::Refused { answer, .. } => answer.is_final(),
            Self::Unreachable { failures } => failures.iter().all(|failure| failure.refused),
            Self::Lost { .. } | Self::Closed | Self::Database { .. } => false,
        }
    }
}

/// A broker's answer to what it does not do: AMQP's reply code and text (AMQP 0-9-1 section 1.1, constants).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The reply code, 403 for example.
    pub code: u16,
    /// The reply text.
    pub text: String,
}

impl Answer {
    /// True if the same question gets the same answer. What the operator, a restart or time mends on the broker's side
    /// alone is not final; an unknown code is tried again.
    pub fn is_final(&self) -> bool {
        match self.code {
            // content-too-large, no-route, no-consumers
            311..=313 |
            // invalid-path, access-refused, not-found, resource-locked, precondition-failed
            402..=406 |
            // frame, syntax, command, channel and unexpected-frame errors: what was sent is no AMQP
            501..=505 |
            // not-allowed, not-implemented
            530 | 540 => true,
            // 320 connection-forced, 506 resource-error, 541 internal-error
            _ => false,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

/// One URL of the list, and why it can't be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Without its password.
    pub url: String,
    /// The failure to connect.
    pub reason: String,
    /// Advice on what to look at.
    pub advice: &'static str,
    /// It was there and said no, or showed a certificate that is not trusted: it will again.
    pub refused: bool,
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
    /// The broker refused it, and closed the channel that it came on.
    #[error(
        "the broker refused a message for exchange {exchange:?}, routing key {routing_key:?}: {answer}"
    )]
    Refused {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
        /// The broker's own words.
        answer: Answer,
    },
    /// It was sent, and the connection was lost before the confirm: it may be with the broker or not.
    #[error("not confirmed, it may have arrived or not: {reason}")]
    NotConfirmed {
        /// The details that are known.
        reason: String,
    },
    /// It was not sent: no connection, or a broker that takes no messages, for too long.
    #[error("the broker took no messages for {} s (connection lost, or a memory or disk alarm)", .waited.as_secs())]
    OutOfReach {
        /// Time for which it was tried.
        waited: Duration,
    },
    /// AMQP can't carry it.
    #[error("amqp can't carry the message: {reason}")]
    Invalid {
        /// The fault, and its place.
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

impl PublishError {
    /// True if the same message will be refused again however often it is sent; otherwise it may pass.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unroutable { .. }
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::TooLate { .. }
            | Self::Undelayable { .. } => true,
            Self::Refused { answer, .. } => answer.is_final(),
            Self::Broker(error) => error.is_final(),
            Self::Nacked { .. } | Self::NotConfirmed { .. } | Self::OutOfReach { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_code_is_final_or_passes() {
        let codes = [
            (311, true),
            (312, true),
            (313, true),
            (320, false),
            (402, true),
            (403, true),
            (404, true),
            (405, true),
            (406, true),
            (501, true),
            (502, true),
            (503, true),
            (504, true),
            (505, true),
            (506, false),
            (530, true),
            (540, true),
            (541, false),
            (599, false),
        ];
        for (code, want) in codes {
            let answer = Answer {
                code,
                text: String::new(),
            };
            assert_eq!(answer.is_final(), want, "{code}");
            let refused = BrokerError::Refused {
                queue: "q".to_owned(),
                answer,
            };
            assert_eq!(PublishError::from(refused).is_final(), want, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_says_nothing_of_the_message() {
        let lost = BrokerError::Lost {
            reason: String::new(),
        };
        assert!(!PublishError::from(lost).is_final());
        assert!(!PublishError::from(BrokerError::Closed).is_final());
    }
}
