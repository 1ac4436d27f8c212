#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};

use super::*;
use crate::{Destination, Properties};

fn publication(message: Message) -> Publication {
    Publication {
        destination: Destination::queue("celery"),
        message,
        mandatory: true,
        not_before: None,
    }
}

fn with_headers(headers: impl IntoIterator<Item = (String, Value)>) -> Publication {
    publication(Message {
        headers: Map::from_iter(headers),
        ..Message::default()
    })
}

fn long() -> Option<String> {
    Some("x".repeat(256))
}

#[test]
fn every_short_string_is_bounded() {
    let properties = |change: fn(&mut Properties)| {
        let mut properties = Properties::default();
        change(&mut properties);
        publication(Message {
            properties,
            ..Message::default()
        })
    };
    let to = |exchange: &str, routing_key: &str| Publication {
        destination: Destination {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        },
        ..publication(Message::default())
    };
    let long_name = "x".repeat(256);
    for (publication, name) in [
        (to(&long_name, "q"), "exchange"),
        (to("", &long_name), "routing key"),
        (properties(|p| p.content_type = long()), "content type"),
        (
            properties(|p| p.content_encoding = long()),
            "content encoding",
        ),
        (properties(|p| p.correlation_id = long()), "correlation id"),
        (properties(|p| p.reply_to = long()), "reply-to"),
        (properties(|p| p.expiration = long()), "expiration"),
        (properties(|p| p.message_id = long()), "message id"),
        (properties(|p| p.kind = long()), "type"),
        (properties(|p| p.app_id = long()), "app id"),
        (properties(|p| p.cluster_id = long()), "cluster id"),
    ] {
        let error = Unsendable::ShortString {
            field: name,
            size: 256,
            limit: 255,
        };
        assert_eq!(check(&publication), Err(error), "{name}");
    }
    assert_eq!(
        check(&properties(|p| p.user_id = long())),
        Ok(()),
        "it is not sent"
    );
    assert_eq!(check(&to(&"x".repeat(255), &"x".repeat(255))), Ok(()));
}

#[test]
fn a_content_header_fits_a_frame() {
    let sized = |size| with_headers([("big".to_owned(), json!("x".repeat(size)))]);
    let empty = content_header(&sized(0).message).unwrap();
    assert_eq!(check(&sized(HEADER_LIMIT - empty)), Ok(()));
    let error = check(&sized(HEADER_LIMIT - empty + 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "properties and headers have 118777 bytes, over the limit of 118776; the largest is \"big\" with 118717"
    );
}

#[test]
fn names_and_depth_are_bounded() {
    let name = "n".repeat(256);
    let inner = json!({ "inner": Value::Object(Map::from_iter([(name.clone(), Value::Null)])) });
    for headers in [(name, Value::Null), ("outer".to_owned(), inner)] {
        assert!(matches!(
            check(&with_headers([headers])),
            Err(Unsendable::HeaderName { size: 256, limit: 255, name }) if name.len() == 40
        ));
    }
    let deep = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(check(&with_headers([("d".to_owned(), deep(60))])), Ok(()));
    let error = Unsendable::Depth {
        name: "d".into(),
        limit: 60,
    };
    assert_eq!(
        check(&with_headers([("d".to_owned(), deep(61))])),
        Err(error)
    );
}

#[test]
fn a_body_is_bounded() {
    let sized = |size| {
        publication(Message {
            body: vec![0; size].into(),
            ..Message::default()
        })
    };
    assert_eq!(check(&sized(BODY_LIMIT)), Ok(()));
    let error = Unsendable::Body {
        size: BODY_LIMIT + 1,
        limit: BODY_LIMIT,
    };
    assert_eq!(check(&sized(BODY_LIMIT + 1)), Err(error));
    // A message that has arrived is kept, whatever its size.
    assert_eq!(
        check(&sized(BODY_LIMIT + 1).kept("kept", "too large")),
        Ok(())
    );
}

#[test]
fn a_direct_reply_to_is_no_queue_for_tasks() {
    let mut sent = publication(Message::default());
    for name in ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.g1h2AA.abc"] {
        sent.destination = Destination::queue(name);
        sent.mandatory = true;
        assert!(
            matches!(check(&sent), Err(Unsendable::DirectReply { .. })),
            "{name}"
        );
        sent.mandatory = false;
        assert_eq!(check(&sent), Ok(()), "a reply goes there");
    }
}

#[test]
fn a_delay_has_room_in_the_routing_key() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let to = |queue: &str, seconds: u64| Publication {
        destination: Destination::queue(queue),
        not_before: Some(now + jiff::SignedDuration::from_secs(seconds.cast_signed())),
        ..publication(Message::default())
    };
    assert_eq!(check(&to(&"q".repeat(199), 1)), Ok(()));
    assert!(matches!(
        check(&to(&"q".repeat(200), 1)),
        Err(Unsendable::DelayedQueue {
            size: 200,
            limit: 199,
            ..
        })
    ));
    assert_eq!(check_delay(&to("a.b", DELAY_LIMIT), now), Ok(()));
    assert!(matches!(
        check_delay(&to("a.*", 1), now),
        Err(Unsendable::DelayedPattern { .. })
    ));
    assert!(matches!(
        check_delay(&to("a", DELAY_LIMIT + 1), now),
        Err(Unsendable::Delay { .. })
    ));
}

#[test]
fn the_room_for_brokers_holds_the_longest_delay() {
    // One entry of `x-death` as RabbitMQ writes it, with the longest routing key.
    let entry = json!({
        "count": {"__type__": "amqp.i64", "__value__": 1},
        "reason": "expired",
        "queue": "celery_delayed_27",
        "time": {"__type__": "amqp.timestamp", "__value__": 1},
        "exchange": "celery_delayed_27",
        "routing-keys": ["x".repeat(255)],
    });
    let entries = vec![entry; usize::from(DELAY_LEVELS)];
    let mut headers = Map::from_iter([("x-death".to_owned(), json!(entries))]);
    for which in ["first", "last"] {
        for what in ["exchange", "queue", "reason"] {
            headers.insert(
                format!("x-{which}-death-{what}"),
                "celery_delayed_27".into(),
            );
        }
    }
    let grown = table_size(&headers).unwrap();
    assert!(grown <= ROOM_FOR_BROKERS, "{grown}");
    assert!(grown > ROOM_FOR_BROKERS - 2048, "{grown}");
}

#[test]
fn an_expiration_is_a_number() {
    for value in ["-1", "soon", "4294967296"] {
        let properties = Properties {
            expiration: Some(value.into()),
            ..Properties::default()
        };
        let message = Message {
            properties,
            ..Message::default()
        };
        assert!(matches!(
            check(&publication(message)),
            Err(Unsendable::Expiration { .. })
        ));
    }
}

#[test]
fn readers_see_plain_values() {
    let headers = Map::from_iter([
        (
            "retries".to_owned(),
            json!({"__type__": "amqp.u8", "__value__": 2}),
        ),
        (
            "timelimit".to_owned(),
            json!([{"__type__": "amqp.f32", "__value__": 1.5}, null]),
        ),
        (
            "id".to_owned(),
            json!({"__type__": "base64", "__value__": "YWJj"}),
        ),
        (
            "price".to_owned(),
            json!({"__type__": "amqp.decimal", "__value__": [2, 325]}),
        ),
        ("other".to_owned(), json!({"__type__": "mine", "a": 1})),
    ]);
    assert_eq!(
        Value::Object(plain(&headers).into_owned()),
        json!({"retries": 2, "timelimit": [1.5, null], "id": "abc", "price": 3.25, "other": {"__type__": "mine", "a": 1}})
    );
}
