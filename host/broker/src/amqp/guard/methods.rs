//! Methods that carry text which a publisher may have chosen, or the broker cut at 255 bytes.

use super::frame::{Fault, Input, METHOD, fault, write_short};

enum Field {
    Short,
    Fixed(usize),
}

use Field::{Fixed, Short};

/// Fields that follow class and method (AMQP 0-9-1, as RabbitMQ speaks it). None where nobody but the broker's operator
/// or ourselves chose the text.
fn layout(class: u16, method: u16) -> Option<&'static [Field]> {
    Some(match (class, method) {
        // connection.close, channel.close: reply-code, reply-text, class-id, method-id
        (10, 50) | (20, 40) => &[Fixed(2), Short, Fixed(4)],
        // connection.blocked: reason; basic.consume-ok, basic.cancel-ok: consumer-tag
        (10, 60) | (60, 21 | 31) => &[Short],
        // queue.declare-ok: queue, message-count, consumer-count
        (50, 11) => &[Short, Fixed(8)],
        // basic.cancel: consumer-tag, no-wait
        (60, 30) => &[Short, Fixed(1)],
        // basic.return: reply-code, reply-text, exchange, routing-key
        (60, 50) => &[Fixed(2), Short, Short, Short],
        // basic.deliver: consumer-tag, delivery-tag and redelivered, exchange, routing-key
        (60, 60) => &[Short, Fixed(9), Short, Short],
        // basic.get-ok: delivery-tag and redelivered, exchange, routing-key, message-count
        (60, 71) => &[Fixed(9), Short, Short, Fixed(4)],
        _ => return None,
    })
}

/// The class and method of a method frame's payload.
pub(super) fn identify(payload: &[u8]) -> Option<(u16, u16)> {
    let mut input = Input(payload);
    Some((
        u16::from_be_bytes(input.array()?),
        u16::from_be_bytes(input.array()?),
    ))
}

/// True if a method frame's payload has text that others than the broker may choose.
#[cfg(test)]
pub(super) fn carries_text(payload: &[u8]) -> bool {
    identify(payload).is_some_and(|(class, method)| layout(class, method).is_some())
}

/// True if content follows the method, for us to deliver.
pub(super) fn delivers(payload: &[u8]) -> bool {
    matches!(identify(payload), Some((60, 60 | 71)))
}

/// The delivery tag of a `basic.deliver`: what is delivered to a consumer.
pub(super) fn delivery_tag(payload: &[u8]) -> Option<u64> {
    let mut input = Input(payload);
    if identify(payload) != Some((60, 60)) {
        return None;
    }
    input.take(METHOD)?;
    input.short()?;
    input.array().map(u64::from_be_bytes)
}

/// True if it closes the channel: channel.close, channel.close-ok.
pub(super) fn closes(payload: &[u8]) -> bool {
    matches!(identify(payload), Some((20, 40 | 41)))
}

/// Appends a method frame's payload with all such text as UTF-8. True if it was UTF-8 before.
pub(super) fn repair(payload: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
    let Some((class, method)) = identify(payload) else {
        return fault(format!("a method frame of {} bytes", payload.len()));
    };
    let Some(layout) = layout(class, method) else {
        out.extend_from_slice(payload);
        return Ok(true);
    };
    let mut input = Input(payload);
    let mut readable = true;
    let mut copy = || {
        out.extend_from_slice(input.take(METHOD)?);
        for field in layout {
            match field {
                Short => readable &= write_short(out, input.short()?),
                Fixed(count) => out.extend_from_slice(input.take(*count)?),
            }
        }
        input.0.is_empty().then_some(())
    };
    match copy() {
        Some(()) => Ok(readable),
        None => fault(format!(
            "the broker's method {class}.{method} is not laid out as AMQP says"
        )),
    }
}
