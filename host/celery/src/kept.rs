//! Messages in quarantine: keeping them, and restoring them as they were.
//!
//! A message that fits is kept as it is, with headers that say why. One that no broker could carry (a property that is
//! too long, headers that fill a frame) is kept in an envelope: a line of JSON, then the body. If the body leaves no
//! room for that line, the body is kept alone.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::headers::{
    DELIVERY_MODE, EXCHANGE, EXPIRATION, MEMORY_WAITS, MESSAGE_ID, QUEUE, REASON, REPLY_TO,
    SENT_AGAIN, UNREADABLE, USER_ID, sent_again, without_quarantines,
};
use crate::wire::{self, beginning};
use crate::{Destination, Message, Properties, Publication};

/// The content type of an envelope.
const ENVELOPE: &str = "application/vnd.petiole.kept";
/// The content type of a body that is kept without its properties and headers.
const ALONE: &str = "application/vnd.petiole.kept-body";
/// Bytes kept of the body of a message that its broker refuses to keep whole.
const CUT: usize = 4096;
/// Bytes of a reason that are kept as a header.
const REASON_LIMIT: usize = 1024;

/// A message read back from quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// As it was.
    pub message: Message,
    /// The place it was to go to, or came from.
    pub destination: Destination,
    /// The reason for keeping it.
    pub reason: String,
}

/// An envelope's first line.
#[derive(Serialize, Deserialize)]
struct Envelope {
    reason: String,
    exchange: String,
    routing_key: String,
    properties: Properties,
    headers: Map<String, Value>,
}

impl Publication {
    /// The same message on its way to the quarantine queue, as one that can't be sent where it was to go.
    pub fn kept(&self, quarantine: &str, reason: &str) -> Self {
        keep(self.message.clone(), quarantine, reason, &self.destination)
    }

    /// A message in quarantine in an envelope, whose own headers are few, where it is in none.
    pub fn enclosed(&self) -> Option<Self> {
        if let Some(ENVELOPE | ALONE) = self.message.properties.content_type.as_deref() {
            return None;
        }
        let Kept {
            message,
            destination,
            reason,
        } = Kept::open(self.message.clone())?;
        Some(Self {
            destination: self.destination.clone(),
            message: enclose(message, &reason, &destination),
            mandatory: true,
            not_before: None,
        })
    }

    /// Cuts a message in quarantine that its broker refuses, to the beginning of its body with its id, task and queue.
    /// None if it is as small as that.
    pub fn cut(&self) -> Option<Self> {
        if is_alone(&self.message) && self.message.body.len() <= CUT {
            return None;
        }
        let Kept {
            mut message,
            destination,
            reason,
        } = Kept::open(self.message.clone())?;
        let size = message.body.len();
        message.body.truncate(CUT);
        let left_out = format!(
            "the broker refuses it whole: {} of its {size} bytes are kept, without headers",
            message.body.len()
        );
        let envelope = Envelope {
            reason,
            exchange: destination.exchange,
            routing_key: destination.routing_key,
            properties: message.properties,
            headers: message.headers,
        };
        Some(Self {
            destination: self.destination.clone(),
            message: alone(message.body, &envelope, left_out),
            mandatory: true,
            not_before: None,
        })
    }
}

impl Message {
    /// The same message on its way to the quarantine queue, with the reason why it is kept there and the
    /// queue that it came from.
    pub(crate) fn kept(self, quarantine: &str, reason: &str, queue: &str) -> Publication {
        keep(self, quarantine, reason, &Destination::queue(queue))
    }

    /// True in quarantine or on the way there. No sender can say so: these headers are left out of what is sent.
    pub fn is_kept(&self) -> bool {
        self.headers.contains_key(REASON)
    }
}

/// Always fits: an envelope is no larger than any broker takes, and a body alone no larger than it came.
fn keep(mut message: Message, quarantine: &str, reason: &str, to: &Destination) -> Publication {
    let reason = beginning(reason, REASON_LIMIT);
    let body = std::mem::take(&mut message.body);
    let mut publication = Publication {
        destination: Destination::queue(quarantine),
        message: mark(&message, reason, to),
        mandatory: true,
        not_before: None,
    };
    publication.message.body = body;
    if !restorable(&message) || wire::check(&publication).is_err() {
        message.body = publication.message.body;
        publication.message = enclose(message, reason, to);
    }
    publication
}

/// True if marks can be told from the message's own headers.
fn restorable(message: &Message) -> bool {
    let content_type = message.properties.content_type.as_deref();
    !matches!(content_type, Some(ENVELOPE | ALONE))
        && without_quarantines(&message.headers).len() == message.headers.len()
}

/// The message with its reason. The broker's own id for it, not the message's, distinguishes it from others.
fn mark(message: &Message, reason: &str, to: &Destination) -> Message {
    let mut message = message.clone();
    let mut set = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            message.headers.insert(name.to_owned(), text.into());
        }
    };
    set(REASON, Some(reason.to_owned()));
    set(QUEUE, Some(to.routing_key.clone()));
    set(
        EXCHANGE,
        Some(to.exchange.clone()).filter(|name| !name.is_empty()),
    );
    set(MESSAGE_ID, message.properties.message_id.take());
    set(
        DELIVERY_MODE,
        (!message.properties.persistent).then(|| "1".to_owned()),
    );
    set(EXPIRATION, message.properties.expiration.take());
    set(USER_ID, message.properties.user_id.take());
    set(REPLY_TO, message.properties.reply_to.take());
    message.properties.persistent = true;
    message
}

fn enclose(message: Message, reason: &str, to: &Destination) -> Message {
    let Message {
        properties,
        headers,
        body,
    } = message;
    let envelope = Envelope {
        reason: reason.to_owned(),
        exchange: to.exchange.clone(),
        routing_key: to.routing_key.clone(),
        properties,
        headers,
    };
    // A map with text for keys is always JSON.
    let mut bytes = serde_json::to_vec(&envelope).unwrap_or_default();
    bytes.push(b'\n');
    if bytes.len() + body.len() > wire::BODY_LIMIT {
        let size = body.len();
        let left_out = format!("they do not fit beside a body of {size} bytes, and are left out");
        return alone(body, &envelope, left_out);
    }
    bytes.extend_from_slice(&body);
    Message {
        properties: Properties {
            content_type: Some(ENVELOPE.to_owned()),
            content_encoding: Some("binary".to_owned()),
            persistent: true,
            priority: envelope.properties.priority,
            ..Properties::default()
        },
        headers: Map::from_iter([(REASON.to_owned(), reason.into())]),
        body: bytes.into(),
    }
}

/// A body without its properties, and of its headers those that tell whose it is.
fn alone(body: Bytes, envelope: &Envelope, left_out: String) -> Message {
    let mut headers = Map::from_iter([
        (REASON.to_owned(), envelope.reason.clone().into()),
        (UNREADABLE.to_owned(), left_out.into()),
    ]);
    for (name, value) in [
        ("id", envelope.headers.get("id").and_then(Value::as_str)),
        ("task", envelope.headers.get("task").and_then(Value::as_str)),
        (QUEUE, Some(envelope.routing_key.as_str())),
    ] {
        let value = beginning(value.unwrap_or_default(), wire::SHORT_STRING_LIMIT);
        headers.insert(name.to_owned(), value.into());
    }
    Message {
        properties: Properties {
            content_type: Some(ALONE.to_owned()),
            persistent: true,
            priority: envelope.properties.priority,
            ..Properties::default()
        },
        headers,
        body,
    }
}

impl Kept {
    /// Opens a message of the quarantine queue; none if it was not kept by Petiole.
    pub fn open(mut message: Message) -> Option<Self> {
        if !message.is_kept() {
            return None;
        }
        if message.properties.content_type.as_deref() == Some(ENVELOPE) {
            return disclose(message.body);
        }
        let mut take = |name| match message.headers.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let reason = take(REASON).unwrap_or_default();
        let destination = Destination {
            routing_key: take(QUEUE)?,
            exchange: take(EXCHANGE).unwrap_or_default(),
        };
        message.properties.message_id = take(MESSAGE_ID);
        message.properties.persistent = take(DELIVERY_MODE).is_none();
        message.properties.expiration = take(EXPIRATION);
        message.properties.user_id = take(USER_ID);
        message.properties.reply_to = take(REPLY_TO);
        Some(Self {
            message,
            destination,
            reason,
        })
    }

    /// The message on its way again, as another run of its task.
    ///
    /// # Errors
    /// If properties or headers were lost on its way into quarantine, since they could not be read: the reason.
    pub fn send_again(mut self) -> Result<Publication, String> {
        let headers = &mut self.message.headers;
        if let Some(reason) = headers.get(UNREADABLE) {
            let reason = reason.as_str().unwrap_or_default();
            return Err(format!(
                "its properties or headers can't be read: {reason}; drop it, and have its sender send it again"
            ));
        }
        let again = sent_again(headers).saturating_add(1);
        headers.insert(SENT_AGAIN.to_owned(), again.into());
        headers.shift_remove(MEMORY_WAITS);
        Ok(Publication {
            destination: self.destination,
            message: self.message,
            mandatory: true,
            not_before: None,
        })
    }
}

fn is_alone(message: &Message) -> bool {
    message.properties.content_type.as_deref() == Some(ALONE)
}

fn disclose(mut enclosed: Bytes) -> Option<Kept> {
    let end = enclosed.iter().position(|byte| *byte == b'\n')?;
    let envelope: Envelope = serde_json::from_slice(&enclosed.split_to(end)).ok()?;
    enclosed.advance(1);
    Some(Kept {
        message: Message {
            properties: envelope.properties,
            headers: envelope.headers,
            body: enclosed,
        },
        destination: Destination {
            exchange: envelope.exchange,
            routing_key: envelope.routing_key,
        },
        reason: envelope.reason,
    })
}

#[cfg(test)]
mod tests;
