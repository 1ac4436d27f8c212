//! Makes what the guard has put aside a delivery's properties again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::protocol::basic::parse_properties;
use petiole_celery::{RAW_PROPERTIES, UNREADABLE};
use serde_json::{Map, Value, json};

use super::{HEADER_LIMIT, Mark, properties};

/// Bytes of the properties, as they came, that are kept with a message that can't be run.
const RAW_LIMIT: usize = 16 * 1024;
/// Bytes of readable properties that such a message keeps. Of more, only the headers that say whose it is.
const READABLE_LIMIT: usize = 64 * 1024;
/// Those headers; none longer than AMQP's short strings.
const WHOSE: [&str; 5] = ["id", "task", "root_id", "parent_id", "group"];

/// The reason not to run a message, and its properties as they came.
#[derive(Debug)]
pub(in super::super) struct Unreadable {
    reason: String,
    raw: Vec<u8>,
    large: bool,
}

/// Puts the properties that the guard has moved into the body back in their place.
pub(in super::super) fn restore(delivery: &mut Delivery) -> Option<Unreadable> {
    let text = delivery.properties.cluster_id().as_ref()?;
    let mark = Mark::read(text.as_str())?;
    let kept = mark.kept.min(delivery.data.len());
    let mut raw: Vec<u8> = delivery.data.drain(..kept).collect();
    let mut readable = Vec::with_capacity(raw.len());
    let repaired = properties::repair(&raw, &mut readable).reason;
    let parsed = parse_properties(readable.as_slice());
    let unparsed = parsed.is_err();
    delivery.properties = parsed.map_or_else(|_| BasicProperties::default(), |(_, parsed)| parsed);
    let reason = if mark.whole > mark.kept {
        format!(
            "they have {} bytes, over the limit of {HEADER_LIMIT}",
            mark.whole
        )
    } else if let Some(reason) = repaired {
        reason
    } else if mark.names {
        "the exchange or the routing key is no UTF-8".to_owned()
    } else if unparsed {
        "they are malformed".to_owned()
    } else {
        return None;
    };
    raw.truncate(RAW_LIMIT);
    Some(Unreadable {
        reason,
        raw,
        large: readable.len() > READABLE_LIMIT,
    })
}

/// Leaves in a message's headers what the guard has found, in the place of what only it may write.
pub(in super::super) fn mark(headers: &mut Map<String, Value>, unreadable: Option<Unreadable>) {
    headers.remove(UNREADABLE);
    headers.remove(RAW_PROPERTIES);
    let Some(unreadable) = unreadable else {
        return;
    };
    if unreadable.large {
        headers.retain(|name, value| {
            WHOSE.contains(&name.as_str())
                && value
                    .as_str()
                    .is_some_and(|text| text.len() <= usize::from(u8::MAX))
        });
    }
    let raw = json!({"__type__": "base64", "__value__": STANDARD.encode(&unreadable.raw)});
    headers.insert(RAW_PROPERTIES.to_owned(), raw);
    headers.insert(UNREADABLE.to_owned(), unreadable.reason.into());
}
