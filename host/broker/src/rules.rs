//! What holds for a publication whatever the broker.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::PublishError;

/// The largest body that is published, in bytes: RabbitMQ 4's own limit. A broker closes the channel
/// over a larger one, and with it the confirms of all that is in flight.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// The longest time that a broker holds a message back, in seconds (28 bits, about 8.5 years).
pub const DELAY_LIMIT: u64 = (1 << 28) - 1;

pub(crate) fn check_body(body: &[u8]) -> Result<(), PublishError> {
    if body.len() > BODY_LIMIT {
        return Err(PublishError::TooLarge {
            size: body.len(),
            limit: BODY_LIMIT,
        });
    }
    Ok(())
}

/// Whole seconds from `now` to `until`, rounded up; none where it is past.
pub(crate) fn delay_seconds(until: Timestamp, now: Timestamp) -> Result<Option<u64>, PublishError> {
    let nanoseconds = until.as_nanosecond() - now.as_nanosecond();
    if nanoseconds <= 0 {
        return Ok(None);
    }
    let seconds = u64::try_from((nanoseconds + 999_999_999) / 1_000_000_000).unwrap_or(u64::MAX);
    if seconds > DELAY_LIMIT {
        return Err(PublishError::TooLate {
            seconds,
            limit: DELAY_LIMIT,
        });
    }
    Ok(Some(seconds))
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
