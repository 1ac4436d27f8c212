#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Commit;
use crate::plan::{Ended, Plan, Settle};

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        3 => "[a-z.-]{0,12}",
        1 => (250_usize..300).prop_map(|size| "x".repeat(size)),
        1 => any::<String>(),
    ])
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = prop::collection::vec(text(), 10);
    let mode = any::<bool>();
    let priority = prop::option::of(any::<u8>());
    let timestamp = prop::option::of(any::<u64>());
    (texts, mode, priority, timestamp).prop_map(|(texts, persistent, priority, timestamp)| {
        let mut texts = texts.into_iter().flatten();
        Properties {
            content_type: texts.next(),
            content_encoding: texts.next(),
            persistent,
            priority,
            correlation_id: texts.next(),
            reply_to: texts.next(),
            expiration: texts.next(),
            message_id: texts.next(),
            timestamp,
            kind: texts.next(),
            user_id: texts.next(),
            app_id: texts.next(),
            cluster_id: texts.next(),
        }
    })
}

fn headers() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![
        4 => "[a-z_-]{1,20}",
        1 => Just(REASON.to_owned()),
        1 => Just(QUEUE.to_owned()),
        1 => Just(USER_ID.to_owned()),
        1 => Just(REPLY_TO.to_owned()),
        1 => (250_usize..260).prop_map(|size| "n".repeat(size)),
    ];
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let value = prop_oneof![
        any::<i64>().prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
        Just(json!({"__type__": "amqp.decimal", "__value__": [2, 314]})),
        Just(
            json!({"__type__": "amqp.table", "__value__": {"__type__": "base64", "__value__": ""}})
        ),
        (60_usize..70).prop_map(deep),
        (60_000_usize..140_000).prop_map(|size| json!("y".repeat(size))),
    ];
    prop::collection::vec((name, value), 0..5).prop_map(Map::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_message_is_kept_and_had_back(
        properties in properties(),
        headers in headers(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        reason in any::<String>(),
        exchange in text(),
        routing_key in text(),
    ) {
        let publication = Publication {
            destination: Destination {
                exchange: exchange.unwrap_or_default(),
                routing_key: routing_key.unwrap_or_default(),
            },
            message: Message { properties, headers, body: body.into() },
            mandatory: true,
            not_before: None,
        };
        let kept = publication.kept("petiole.quarantine", &reason);
        prop_assert_eq!(wire::check(&kept), Ok(()));
        prop_assert!(kept.message.properties.persistent);
        let opened = Kept::open(kept.message).unwrap();
        prop_assert_eq!(opened.message, publication.message);
        prop_assert_eq!(opened.destination, publication.destination);
        prop_assert_eq!(opened.reason, beginning(&reason, REASON_LIMIT));
    }
}

#[test]
fn what_is_sent_again_is_another_run_and_nothing_mutilated_is() {
    let publication = |headers: Value| Publication {
        destination: Destination::queue("wasm"),
        message: Message {
            headers: headers.as_object().unwrap().clone(),
            ..Message::default()
        },
        mandatory: true,
        not_before: None,
    };
    let again = |headers| {
        let kept = publication(headers).kept("kept", "why");
        Kept::open(kept.message).unwrap().send_again()
    };
    let first = again(json!({"id": "1"})).unwrap();
    assert_eq!(first.destination, Destination::queue("wasm"));
    assert_eq!(first.message.headers[SENT_AGAIN], 1);
    let second = again(Value::Object(first.message.headers)).unwrap();
    assert_eq!(second.message.headers[SENT_AGAIN], 2);
    let unreadable = again(json!({UNREADABLE: "app_id is no UTF-8"})).unwrap_err();
    assert!(unreadable.contains("app_id"), "{unreadable}");
}

#[test]
fn what_fits_is_kept_as_it_is() {
    let message = Message {
        properties: Properties {
            persistent: true,
            message_id: Some("mine".into()),
            reply_to: Some("amq.rabbitmq.reply-to".into()),
            ..Properties::default()
        },
        headers: Map::from_iter([("id".to_owned(), json!("1"))]),
        body: Bytes::from_static(b"[]"),
    };
    let kept = message.kept("kept", "no such task", "wasm").message;
    assert_eq!(kept.body, b"[]".as_slice());
    assert_eq!(kept.properties.reply_to, None, "the broker would refuse it");
    assert_eq!(
        Value::Object(kept.headers),
        json!({
            "id": "1", "x-petiole-reason": "no such task", "x-petiole-queue": "wasm",
            "x-petiole-message-id": "mine", "x-petiole-reply-to": "amq.rabbitmq.reply-to",
        })
    );
}

#[test]
fn an_envelope_is_readable() {
    let message = Message {
        headers: Map::from_iter([("shadow".to_owned(), json!("s".repeat(140_000)))]),
        body: Bytes::from_static(b"[[1], {}, null]"),
        ..Message::default()
    };
    let kept = message.kept("kept", "too large", "wasm").message;
    let text = String::from_utf8(kept.body.to_vec()).unwrap();
    let (line, body) = text.split_once('\n').unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["reason"], "too large");
    assert_eq!(line["routing_key"], "wasm");
    assert_eq!(line["headers"]["shadow"].as_str().unwrap().len(), 140_000);
    assert_eq!(body, "[[1], {}, null]");
}

#[test]
fn what_is_enclosed_is_had_back_whole() {
    let message = Message {
        properties: Properties {
            persistent: true,
            ..Properties::default()
        },
        headers: Map::from_iter([
            ("id".to_owned(), json!("1")),
            ("shadow".to_owned(), json!("s".repeat(10_000))),
        ]),
        body: Bytes::from_static(b"[]"),
    };
    let kept = message.clone().kept("kept", "no such task", "wasm");
    let enclosed = kept.enclosed().unwrap();
    assert!(wire::content_header(&enclosed.message).unwrap() < 4096);
    assert_eq!(enclosed.enclosed(), None);
    assert_eq!(Kept::open(enclosed.message), Kept::open(kept.message));
    assert_eq!(
        message
            .kept("kept", "no such task", "wasm")
            .cut()
            .unwrap()
            .enclosed(),
        None
    );
}

/// Each table looks like a value with its type, which takes a table more around it.
#[test]
fn the_deepest_headers_are_had_back() {
    let tag = |inner| match json!({"__type__": "amqp.table", "__value__": inner}) {
        Value::Object(table) => wire::table_to_json(table),
        other => other,
    };
    let deep = (1..wire::DEPTH_LIMIT).fold(json!({}), |inner, _| tag(inner));
    let headers = Map::from_iter([("id".to_owned(), json!("1")), ("deep".to_owned(), deep)]);
    let message = Message {
        headers,
        ..Message::default()
    };
    let kept = message.clone().kept("kept", "no such task", "wasm");
    assert_eq!(wire::check(&kept), Ok(()));
    let enclosed = kept.enclosed().unwrap();
    assert_eq!(
        Kept::open(enclosed.message).unwrap().message.headers,
        message.headers
    );
    let plan = Plan {
        results: Vec::new(),
        publications: vec![kept.clone()],
        settle: Settle::Ack,
        ended: Ended::Success,
    };
    let commit = Commit::read(Commit::of(&plan).record(7)).unwrap();
    assert_eq!(commit.publications, vec![kept]);
}

/// A sender may name Petiole's own content types.
#[test]
fn a_message_that_looks_kept_is_kept_too() {
    for content_type in [ENVELOPE, ALONE] {
        let message = Message {
            properties: Properties {
                content_type: Some(content_type.to_owned()),
                ..Properties::default()
            },
            headers: Map::from_iter([("shadow".to_owned(), json!("s".repeat(10_000)))]),
            body: Bytes::from_static(b"[]"),
        };
        let kept = message.clone().kept("kept", "why", "wasm");
        assert!(wire::content_header(&kept.message).unwrap() < 4096);
        assert!(kept.cut().is_some());
        assert_eq!(Kept::open(kept.message).unwrap().message, message);
    }
}

/// A broker's own limit is as much as ours (RabbitMQ 4's `max_message_size`), and the message came within it.
#[test]
fn a_body_that_leaves_no_room_is_kept_alone() {
    let large = json!({"id": "1", "task": "a.b", "shadow": "s".repeat(130_000)});
    for (headers, content_type) in [(large, None), (json!({"id": "1"}), Some(ENVELOPE))] {
        let message = Message {
            properties: Properties {
                content_type: content_type.map(str::to_owned),
                ..Properties::default()
            },
            headers: headers.as_object().unwrap().clone(),
            body: vec![b'x'; wire::BODY_LIMIT - 50].into(),
        };
        let publication = message.kept("kept", "too large", "wasm");
        assert_eq!(wire::check(&publication), Ok(()));
        assert_eq!(publication.message.body.len(), wire::BODY_LIMIT - 50);
        let opened = Kept::open(publication.message).unwrap();
        assert_eq!(opened.destination, Destination::queue("wasm"));
        assert_eq!(
            (&*opened.reason, &opened.message.headers["id"]),
            ("too large", &json!("1"))
        );
        let refused = opened.send_again().unwrap_err();
        assert!(refused.contains("left out"), "{refused}");
    }
}

#[test]
fn what_a_broker_refuses_to_keep_is_cut_once() {
    for headers in [
        json!({"id": "1"}),
        json!({"id": "1", "shadow": "s".repeat(140_000)}),
    ] {
        let message = Message {
            headers: headers.as_object().unwrap().clone(),
            body: vec![b'x'; 1_000_000].into(),
            ..Message::default()
        };
        let cut = message.kept("kept", "no such task", "wasm").cut().unwrap();
        assert_eq!(cut.destination, Destination::queue("kept"));
        assert_eq!(cut.message.body, vec![b'x'; CUT]);
        assert!(wire::content_header(&cut.message).unwrap() < 4096);
        assert_eq!(cut.cut(), None);
        let opened = Kept::open(cut.message).unwrap();
        assert_eq!(
            (&*opened.reason, &opened.message.headers["id"]),
            ("no such task", &json!("1"))
        );
        assert!(
            opened
                .send_again()
                .unwrap_err()
                .contains("4096 of its 1000000 bytes")
        );
    }
}

#[test]
fn what_petiole_did_not_keep_is_not_opened() {
    assert_eq!(Kept::open(Message::default()), None);
}
