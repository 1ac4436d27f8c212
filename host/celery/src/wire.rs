//! Limits of the wire: those of AMQP 0-9-1 and of Petiole's own policy, in one place.
//!
//! Code that makes a message calls [`check`] before anything relies on it, and the broker crate calls [`check_message`]
//! once more before its library has to frame it. Sizes are those of the encoding itself (section 4.2 of the
//! specification); a test of the broker crate holds them equal to what its library writes.

mod field;
mod size;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::{Destination, Exception, Message, Publication};
pub use field::{Field, plain, table_to_json};
pub(crate) use field::{from_message, to_message};
use size::{table_size, text_size};

/// The longest short string, in bytes: names and properties are nothing else (section 4.2.5.3).
pub const SHORT_STRING_LIMIT: usize = 255;
/// Levels of tables and arrays in each other that headers may have. A table that looks like a value with its type takes
/// two levels of JSON, and what is kept as JSON must be read again, of which serde_json reads 127.
pub const DEPTH_LIMIT: usize = 60;
/// Prefix of the names that RabbitMQ makes for direct reply-to.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";
/// RabbitMQ's default `frame_max`. Properties and headers can't be split over frames.
const FRAME_MAX: usize = 131_072;
/// A frame's type, channel, length and end (section 4.2.3).
const FRAME_OVERHEAD: usize = 8;
/// Bytes left for what brokers write into the headers of a message on its way. The most that Petiole
/// causes is the `x-death` of a delayed message: 28 entries of some 390 bytes (the routing key is up to
/// 255 of them), with 6 headers `x-first-death-*` and `x-last-death-*`: 11.2 kB.
pub const ROOM_FOR_BROKERS: usize = 12 * 1024;
/// The most that properties and headers may take, in bytes, with the rest of the content header.
pub const HEADER_LIMIT: usize = FRAME_MAX - FRAME_OVERHEAD - ROOM_FOR_BROKERS;
/// The largest body, in bytes: RabbitMQ 4's own limit. A broker closes the channel over a larger one, and
/// with it the confirms of all that is in flight.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The same of a message on its way to quarantine: what arrived has to fit, and RabbitMQ before 4 carries that much.
pub const KEPT_BODY_LIMIT: usize = 128 * 1024 * 1024;
/// Levels of the delayed delivery: binary digits of its seconds.
pub const DELAY_LEVELS: u8 = 28;
/// Bytes that a delay takes of a routing key: a digit and a dot for each level.
pub const DELAY_PREFIX: usize = 2 * DELAY_LEVELS as usize;
/// The longest time that a broker holds a message back, in seconds (about 8.5 years).
pub const DELAY_LIMIT: u64 = (1 << DELAY_LEVELS) - 1;
/// A message id that the broker makes where a message has none.
const ID_SIZE: usize = 36;
/// Class, weight, body size and flags (section 4.2.6.1).
const FIXED_SIZE: usize = 2 + 2 + 8 + 2;
/// Bytes of a name that are quoted.
const QUOTED: usize = 40;

/// A message that the wire can't carry, however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// A name or a property that AMQP has only a short string for.
    #[error("the {field} has {size} bytes, over the limit of {limit}")]
    ShortString {
        /// Its name.
        field: &'static str,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// A header's name.
    #[error("the header name {name:?}... has {size} bytes, over the limit of {limit}")]
    HeaderName {
        /// Its beginning.
        name: String,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// Headers in headers.
    #[error("the header {name:?} is nested deeper than {limit} levels")]
    Depth {
        /// The header, or the beginning of its name.
        name: String,
        /// Levels.
        limit: usize,
    },
    /// Properties and headers do not fit a frame.
    #[error(
        "properties and headers have {size} bytes, over the limit of {limit}; the largest is {largest:?} with {largest_size}"
    )]
    Header {
        /// The header that takes most of it, or the beginning of its name.
        largest: String,
        /// Bytes.
        largest_size: usize,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// The body.
    #[error("a body of {size} bytes is over the limit of {limit}")]
    Body {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// RabbitMQ closes the channel over an expiration that is no number of milliseconds.
    #[error("the expiration {value:?} is not a number of milliseconds below 2^32")]
    Expiration {
        /// Its beginning.
        value: String,
    },
    /// A name for RabbitMQ's direct reply-to is no queue for tasks, and RabbitMQ ends a connection over one that it
    /// can't read.
    #[error("{name:?}... is the name of a direct reply-to, not of a queue")]
    DirectReply {
        /// Its beginning.
        name: String,
    },
    /// A message that is held back has its delay in its routing key, beside the queue.
    #[error(
        "a message for queue {queue:?}... can't be delayed: the name has {size} bytes, over the limit of {limit}"
    )]
    DelayedQueue {
        /// Its beginning.
        queue: String,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// The delayed delivery's bindings read such a name as a pattern.
    #[error("a message for queue {queue:?} can't be delayed: its name has a word * or #")]
    DelayedPattern {
        /// Its beginning.
        queue: String,
    },
    /// Its time is too far away.
    #[error("a delay of {seconds} s is over the limit of {limit} s")]
    Delay {
        /// Seconds from now.
        seconds: u64,
        /// Seconds.
        limit: u64,
    },
}

impl Unsendable {
    /// The class of the exception of a task whose result is too large for a message.
    pub const RESULT_TOO_LARGE: &str = "ResultTooLarge";

    /// The exception of a task whose own message this is.
    pub(crate) fn exception(&self) -> Exception {
        Exception::new("petiole.exceptions", "Unsendable", self.to_string())
    }

    /// The same, of a message that is only too large by the task's result.
    pub(crate) fn result_exception(&self, of: &str) -> Exception {
        match self {
            Self::Body { .. } => Exception::new(
                "petiole.exceptions",
                Self::RESULT_TOO_LARGE,
                format!("the result does not fit {of}: {self}"),
            ),
            _ => self.exception(),
        }
    }
}

/// Checks that the wire carries a message.
///
/// # Errors
/// With the first thing that it can't carry.
pub fn check(publication: &Publication) -> Result<(), Unsendable> {
    let to = &publication.destination;
    check_message(&publication.message, &to.exchange, &to.routing_key)?;
    if publication.mandatory && is_direct_reply(to) {
        return Err(Unsendable::DirectReply {
            name: beginning(&to.routing_key, QUOTED).to_owned(),
        });
    }
    let delayed = publication.not_before.is_some() && to.exchange.is_empty();
    let limit = SHORT_STRING_LIMIT - DELAY_PREFIX;
    if delayed && to.routing_key.len() > limit {
        return Err(Unsendable::DelayedQueue {
            queue: beginning(&to.routing_key, QUOTED).to_owned(),
            size: to.routing_key.len(),
            limit,
        });
    }
    Ok(())
}

/// Checks that too, and that the broker can hold it back until it is due: for what goes back to the queue it came from.
pub(crate) fn check_delay(publication: &Publication, now: Timestamp) -> Result<(), Unsendable> {
    check(publication)?;
    let Some(until) = publication.not_before else {
        return Ok(());
    };
    let queue = &publication.destination.routing_key;
    if queue.split('.').any(|word| matches!(word, "*" | "#")) {
        return Err(Unsendable::DelayedPattern {
            queue: beginning(queue, QUOTED).to_owned(),
        });
    }
    delay_seconds(until, now).map(drop)
}

/// Whole seconds from `now` to `until`, rounded up; none where it is past.
///
/// # Errors
/// If they are too many.
pub fn delay_seconds(until: Timestamp, now: Timestamp) -> Result<Option<u64>, Unsendable> {
    let nanoseconds = until.as_nanosecond() - now.as_nanosecond();
    if nanoseconds <= 0 {
        return Ok(None);
    }
    let seconds = u64::try_from((nanoseconds + 999_999_999) / 1_000_000_000).unwrap_or(u64::MAX);
    if seconds > DELAY_LIMIT {
        return Err(Unsendable::Delay {
            seconds,
            limit: DELAY_LIMIT,
        });
    }
    Ok(Some(seconds))
}

/// Checks that the wire carries a message to this exchange with this routing key.
///
/// # Errors
/// With the first thing that it can't carry.
pub fn check_message(
    message: &Message,
    exchange: &str,
    routing_key: &str,
) -> Result<(), Unsendable> {
    short("exchange", exchange)?;
    short("routing key", routing_key)?;
    for (field, text) in texts(message) {
        short(field, text)?;
    }
    if let Some(value) = &message.properties.expiration
        && value.parse::<u32>().is_err()
    {
        return Err(Unsendable::Expiration {
            value: beginning(value, QUOTED).to_owned(),
        });
    }
    let size = content_header(message)?;
    if size > HEADER_LIMIT {
        return Err(too_large(message, size));
    }
    let limit = if message.is_kept() {
        KEPT_BODY_LIMIT
    } else {
        BODY_LIMIT
    };
    if message.body.len() > limit {
        return Err(Unsendable::Body {
            size: message.body.len(),
            limit,
        });
    }
    Ok(())
}

/// Bytes of the content header's payload that a message is sent with: class, weight, body size, flags and
/// properties, the headers among them. A message without an id is given one by the broker crate.
///
/// # Errors
/// If its headers are no field table.
pub fn content_header(message: &Message) -> Result<usize, Unsendable> {
    let properties = &message.properties;
    let texts: usize = texts(message).map(|(_, text)| text_size(text)).sum();
    let id = properties.message_id.as_ref().map_or(1 + ID_SIZE, |_| 0);
    let delivery_mode = 1;
    let priority = usize::from(properties.priority.is_some());
    let timestamp = properties.timestamp.map_or(0, |_| 8);
    let headers = table_size(&message.headers)?;
    Ok(FIXED_SIZE + texts + id + delivery_mode + priority + timestamp + headers)
}

/// The properties that are short strings, as far as they are sent: `user_id` is not, as RabbitMQ closes the
/// channel over one that is not the connection's.
fn texts(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    let properties = &message.properties;
    [
        ("content type", &properties.content_type),
        ("content encoding", &properties.content_encoding),
        ("correlation id", &properties.correlation_id),
        ("reply-to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message id", &properties.message_id),
        ("type", &properties.kind),
        ("app id", &properties.app_id),
        ("cluster id", &properties.cluster_id),
    ]
    .into_iter()
    .filter_map(|(field, text)| Some((field, text.as_deref()?)))
}

/// True for the name of somebody who waits by RabbitMQ's direct reply-to.
pub fn is_direct_reply(destination: &Destination) -> bool {
    destination.exchange.is_empty() && destination.routing_key.starts_with(DIRECT_REPLY)
}

fn short(field: &'static str, text: &str) -> Result<(), Unsendable> {
    if text.len() > SHORT_STRING_LIMIT {
        return Err(Unsendable::ShortString {
            field,
            size: text.len(),
            limit: SHORT_STRING_LIMIT,
        });
    }
    Ok(())
}

fn too_large(message: &Message, size: usize) -> Unsendable {
    let (largest_size, largest) = message
        .headers
        .iter()
        .map(|(name, value)| (size::value_size(value).unwrap_or(0), name))
        .max_by_key(|(size, _)| *size)
        .map_or((0, ""), |(size, name)| (size, name.as_str()));
    Unsendable::Header {
        largest: beginning(largest, QUOTED).to_owned(),
        largest_size,
        size,
        limit: HEADER_LIMIT,
    }
}

/// As much of a text as fits, in whole characters.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
