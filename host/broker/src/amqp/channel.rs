//! The end of a channel: closing it, and what the broker says where it closes it itself.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Channel, ErrorKind};
use tokio::time::timeout;
use tracing::debug;

use super::reply_code::NOT_FOUND;
use crate::{Answer, BrokerError};

/// AMQP's reply code for success.
pub(super) const REPLY_SUCCESS: u16 = 200;
/// Time for a closing handshake.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A channel error: it closes the channel, and the connection lives on.
pub(super) fn soft(error: &lapin::Error) -> Option<&AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

pub(super) fn refused(queue: &str, error: &lapin::Error) -> BrokerError {
    match answer(error) {
        Some(answer) => BrokerError::Refused {
            queue: queue.to_owned(),
            answer,
        },
        None => BrokerError::Lost {
            reason: error.to_string(),
        },
    }
}

/// True if the broker says that there is no such queue or exchange.
pub(super) fn is_missing(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Refused { answer, .. } if answer.code == NOT_FOUND)
}

/// The broker's words, where it closed a channel with them.
pub(super) fn answer(error: &lapin::Error) -> Option<Answer> {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) if soft(error).is_some() => Some(Answer {
            code: protocol.get_id(),
            text: protocol.get_message().to_string(),
        }),
        _ => None,
    }
}

/// Closes a channel. One that fails in it is closed already; one that does not answer goes with its connection.
pub(super) async fn close(channel: &Channel) {
    match timeout(CLOSE_LIMIT, channel.close(REPLY_SUCCESS, "done".into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "closing a channel"),
        Err(_) => debug!(limit = ?CLOSE_LIMIT, "a channel is not closed"),
    }
}
