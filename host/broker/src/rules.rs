//! Rules for a publication whatever the broker.

use jiff::Timestamp;
use petiole_celery::Message;
use petiole_celery::wire::{self, Unsendable};
use serde_json::{Map, Value};

use crate::PublishError;

/// The last guard: checks that the wire carries a message to this exchange with this routing key.
pub(crate) fn check(
    message: &Message,
    exchange: &str,
    routing_key: &str,
) -> Result<(), PublishError> {
    Ok(wire::check_message(message, exchange, routing_key)?)
}

/// Whole seconds from `now` to `until`, rounded up; none where it is past.
pub(crate) fn delay_seconds(until: Timestamp, now: Timestamp) -> Result<Option<u64>, PublishError> {
    Ok(wire::delay_seconds(until, now)?)
}

impl From<Unsendable> for PublishError {
    fn from(reason: Unsendable) -> Self {
        match reason {
            Unsendable::Body { size, limit } => Self::TooLarge { size, limit },
            Unsendable::Delay { seconds, limit } => Self::TooLate { seconds, limit },
            Unsendable::ShortString { .. }
            | Unsendable::HeaderName { .. }
            | Unsendable::Depth { .. }
            | Unsendable::Header { .. }
            | Unsendable::Expiration { .. }
            | Unsendable::DirectReply { .. }
            | Unsendable::DelayedQueue { .. }
            | Unsendable::DelayedPattern { .. } => Self::Invalid {
                reason: reason.to_string(),
            },
        }
    }
}

/// The headers without those that the broker wrote on an earlier journey, or obeyed on it. RabbitMQ drops
/// a message whose copied `x-death` makes a dead-letter cycle of it, and would route one with `CC` again.
pub(crate) fn sent_on(mut headers: Map<String, Value>) -> Map<String, Value> {
    headers.retain(|name, _| {
        !matches!(name.as_str(), "x-death" | "x-delivery-count" | "CC" | "BCC")
            && !name.starts_with("x-first-death-")
            && !name.starts_with("x-last-death-")
    });
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use petiole_celery::wire::DELAY_LIMIT;
    use serde_json::json;

    use super::*;

    #[test]
    fn delays_round_up_and_are_bounded() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let at = |nanoseconds: i128| {
            Timestamp::from_nanosecond(now.as_nanosecond() + nanoseconds).unwrap()
        };
        assert_eq!(delay_seconds(at(-5), now), Ok(None));
        assert_eq!(delay_seconds(at(0), now), Ok(None));
        assert_eq!(delay_seconds(at(1), now), Ok(Some(1)));
        assert_eq!(delay_seconds(at(1_000_000_000), now), Ok(Some(1)));
        assert_eq!(delay_seconds(at(1_000_000_001), now), Ok(Some(2)));
        let last = i128::from(DELAY_LIMIT) * 1_000_000_000;
        assert_eq!(delay_seconds(at(last), now), Ok(Some(DELAY_LIMIT)));
        let over = PublishError::TooLate {
            seconds: DELAY_LIMIT + 1,
            limit: DELAY_LIMIT,
        };
        assert_eq!(delay_seconds(at(last + 1), now), Err(over));
    }

    #[test]
    fn the_brokers_own_headers_are_not_sent_on() {
        let Value::Object(headers) = json!({
            "id": "1", "x-death": [{}], "x-first-death-queue": "a", "x-last-death-reason": "b",
            "x-delivery-count": 3, "CC": ["other"], "BCC": ["other"], "x-mine": 1,
        }) else {
            return;
        };
        assert_eq!(
            sent_on(headers).keys().collect::<Vec<_>>(),
            ["id", "x-mine"]
        );
    }
}
