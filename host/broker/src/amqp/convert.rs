//! A [`Message`] and AMQP's own form of it, both ways.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;
use petiole_celery::{Message, Properties};
use serde_json::{Map, Value};

use super::delay;
use super::guard;
use super::names::short;
use super::table;
use crate::PublishError;
use crate::rules::{check, sent_on};

/// AMQP's `delivery-mode` for what is kept on disk.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// A message in AMQP's form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    /// Also among the properties.
    pub(super) message_id: String,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// Exchange and routing key.
    pub(super) fn route(&self) -> (String, String) {
        (self.exchange.to_string(), self.routing_key.to_string())
    }
}

/// The AMQP form of a message. `fallback_id` identifies a message that has no id of its own.
pub(super) fn outgoing(
    message: Message,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
    fallback_id: impl FnOnce() -> String,
) -> Result<Outgoing, PublishError> {
    let message = Message {
        headers: sent_on(message.headers),
        ..message
    };
    check(&message, exchange, routing_key)?;
    let message_id = message
        .properties
        .message_id
        .clone()
        .unwrap_or_else(fallback_id);
    Ok(Outgoing {
        exchange: short("exchange", exchange)?,
        routing_key: short("routing key", routing_key)?,
        mandatory,
        properties: properties(message.properties, &message_id, &message.headers)?,
        message_id,
        body: message.body,
    })
}

fn properties(
    from: Properties,
    message_id: &str,
    headers: &Map<String, Value>,
) -> Result<BasicProperties, PublishError> {
    let table = table::from_json(headers).ok_or_else(|| PublishError::Invalid {
        reason: "its headers are no field table".to_owned(),
    })?;
    let mut to = BasicProperties::default()
        .with_headers(table)
        .with_delivery_mode(if from.persistent {
            PERSISTENT
        } else {
            TRANSIENT
        })
        .with_message_id(short("message id", message_id)?);
    if let Some(value) = from.content_type {
        to = to.with_content_type(short("content type", &value)?);
    }
    if let Some(value) = from.content_encoding {
        to = to.with_content_encoding(short("content encoding", &value)?);
    }
    if let Some(value) = from.priority {
        to = to.with_priority(value);
    }
    if let Some(value) = from.correlation_id {
        to = to.with_correlation_id(short("correlation id", &value)?);
    }
    if let Some(value) = from.reply_to {
        to = to.with_reply_to(short("reply-to", &value)?);
    }
    if let Some(value) = from.expiration {
        to = to.with_expiration(short("expiration", &value)?);
    }
    if let Some(value) = from.timestamp {
        to = to.with_timestamp(value);
    }
    if let Some(value) = from.kind {
        to = to.with_type(short("type", &value)?);
    }
    if let Some(value) = from.app_id {
        to = to.with_app_id(short("app id", &value)?);
    }
    if let Some(value) = from.cluster_id {
        to = to.with_cluster_id(short("cluster id", &value)?);
    }
    Ok(to)
}

/// The message of a delivery, and the exchange and routing key it was published with.
pub(super) fn incoming(mut delivery: lapin::message::Delivery) -> (Message, String, String) {
    let unreadable = guard::restore(&mut delivery);
    let lapin::message::Delivery {
        exchange,
        routing_key,
        properties,
        data,
        ..
    } = delivery;
    let text = |value: &Option<ShortString>| value.as_ref().map(|value| value.as_str().to_owned());
    let mut message = Message {
        properties: Properties {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            persistent: *properties.delivery_mode() == Some(PERSISTENT),
            priority: *properties.priority(),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            expiration: text(properties.expiration()),
            message_id: text(properties.message_id()),
            timestamp: *properties.timestamp(),
            kind: text(properties.kind()),
            user_id: text(properties.user_id()),
            app_id: text(properties.app_id()),
            cluster_id: text(properties.cluster_id()),
        },
        headers: properties
            .headers()
            .as_ref()
            .map(table::to_json)
            .unwrap_or_default(),
        body: data.into(),
    };
    guard::mark(&mut message.headers, unreadable);
    let (exchange, routing_key) = delay::as_published(exchange.as_str(), routing_key.as_str());
    (message, exchange.to_owned(), routing_key.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use lapin::protocol::basic::gen_properties;
    use petiole_celery::wire::{self, BODY_LIMIT};
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::table::tests::tables;

    fn go(message: Message) -> Result<Outgoing, PublishError> {
        outgoing(message, "", "q", true, || "fallback".to_owned())
    }

    #[test]
    fn a_message_id_is_made_where_there_is_none() {
        assert_eq!(go(Message::default()).unwrap().message_id, "fallback");
        let own = Properties {
            message_id: Some("own".to_owned()),
            ..Properties::default()
        };
        let sent = go(Message {
            properties: own,
            ..Message::default()
        })
        .unwrap();
        assert_eq!(
            sent.properties
                .message_id()
                .as_ref()
                .map(ShortString::as_str),
            Some("own")
        );
    }

    #[test]
    fn what_would_close_the_channel_is_refused() {
        let with = |properties| {
            go(Message {
                properties,
                ..Message::default()
            })
            .unwrap_err()
        };
        let long = || Some("x".repeat(256));
        for error in [
            with(Properties {
                correlation_id: long(),
                ..Properties::default()
            }),
            with(Properties {
                reply_to: long(),
                ..Properties::default()
            }),
            with(Properties {
                content_type: long(),
                ..Properties::default()
            }),
            with(Properties {
                message_id: long(),
                ..Properties::default()
            }),
            with(Properties {
                expiration: Some("-1".to_owned()),
                ..Properties::default()
            }),
            with(Properties {
                expiration: Some("soon".to_owned()),
                ..Properties::default()
            }),
        ] {
            assert!(matches!(error, PublishError::Invalid { .. }), "{error}");
        }
        let large = go(Message {
            body: vec![0; BODY_LIMIT + 1].into(),
            ..Message::default()
        });
        assert_eq!(
            large.unwrap_err(),
            PublishError::TooLarge {
                size: BODY_LIMIT + 1,
                limit: BODY_LIMIT
            }
        );
        assert!(matches!(
            short("exchange", &"x".repeat(256)),
            Err(PublishError::Invalid { .. })
        ));
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        prop::option::of(prop_oneof!["[a-z/-]{0,12}", Just("é".repeat(127))])
    }

    fn messages() -> impl Strategy<Value = Message> {
        let texts = prop::collection::vec(text(), 9);
        let expiration = prop::option::of(any::<u32>());
        let rest = (
            any::<bool>(),
            prop::option::of(any::<u8>()),
            prop::option::of(any::<u64>()),
        );
        (texts, expiration, rest, tables()).prop_map(
            |(texts, expiration, (persistent, priority, timestamp), table)| {
                let mut texts = texts.into_iter();
                let mut text = || texts.next().flatten();
                Message {
                    properties: Properties {
                        content_type: text(),
                        content_encoding: text(),
                        persistent,
                        priority,
                        correlation_id: text(),
                        reply_to: text(),
                        expiration: expiration.map(|value| value.to_string()),
                        message_id: text(),
                        timestamp,
                        kind: text(),
                        user_id: text(),
                        app_id: text(),
                        cluster_id: text(),
                    },
                    headers: table::to_json(&table),
                    body: Bytes::new(),
                }
            },
        )
    }

    /// Bytes of a content header's payload as lapin frames it: class, weight, body size, then flags and properties.
    fn framed(properties: &BasicProperties) -> usize {
        let written = gen_properties(properties)(Vec::new().into()).unwrap();
        2 + 2 + 8 + written.into_inner().0.len()
    }

    proptest! {
        #[test]
        fn the_size_is_what_lapin_writes(message in messages()) {
            let id = || "0b1c2d3e-0000-4000-8000-000000000001".to_owned();
            let size = wire::content_header(&message).unwrap();
            let outgoing = outgoing(message, "", "q", true, id).unwrap();
            prop_assert_eq!(size, framed(&outgoing.properties));
        }
    }

    #[test]
    fn a_user_is_read_and_never_sent() {
        let properties = BasicProperties::default().with_user_id("guest".into());
        let delivery = lapin::message::Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
        let (message, ..) = incoming(lapin::message::Delivery {
            properties,
            ..delivery
        });
        assert_eq!(message.properties.user_id.as_deref(), Some("guest"));
        assert_eq!(*go(message).unwrap().properties.user_id(), None);
    }
}
