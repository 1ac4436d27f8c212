//! Celery's own messages, read, and what this crate writes, read back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "wire/fuzz.rs"]
mod fuzz;
mod support;

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use jiff::Timestamp;
use petiole_celery::{
    Destination, Embed, Message, Origin, Properties, Refusal, Request, Routes, Signature,
    TimeLimits, Undecodable, compose,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-11-22T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A message recorded from Celery.
fn fixture(name: &str) -> Message {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
        .with_extension("json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let property = |name: &str| recorded["properties"][name].as_str().map(str::to_owned);
    let body = match (&recorded["body"], &recorded["body_base64"]) {
        (Value::String(body), _) => body.clone().into_bytes(),
        (_, Value::String(body)) => base64::engine::general_purpose::STANDARD
            .decode(body)
            .unwrap(),
        _ => panic!("{name} has no body"),
    };
    Message {
        properties: Properties {
            content_type: property("content_type"),
            content_encoding: property("content_encoding"),
            persistent: recorded["properties"]["delivery_mode"] == json!(2),
            priority: recorded["properties"]["priority"]
                .as_u64()
                .map(|priority| priority.try_into().unwrap()),
            correlation_id: property("correlation_id"),
            reply_to: property("reply_to"),
            expiration: property("expiration"),
            message_id: None,
            ..Properties::default()
        },
        headers: recorded["headers"].as_object().unwrap().clone(),
        body: body.into(),
    }
}

fn decode(name: &str) -> Request {
    Request::decode(fixture(name), |_| usize::MAX)
        .unwrap_or_else(|error| panic!("{name}: {}", error.refusal))
}

fn signature(task: &str, args: Value, options: Value) -> Signature {
    Signature::from_value(json!({"task": task, "args": args, "options": options})).unwrap()
}

fn command_line() -> Origin<'static> {
    Origin {
        parent_id: None,
        root_id: None,
        origin: "1@test",
        sent_again: 0,
    }
}

mod celerys_messages {
    use super::*;

    #[test]
    fn a_task_with_callbacks_limits_and_times() {
        let request = decode("link");
        assert_eq!(request.id, "4864a9fb-9f2d-4501-ae83-21f2197e31df");
        assert_eq!(request.task, "t.integration.tasks.add");
        assert_eq!(request.args, [json!(1), json!(2)]);
        assert_eq!(request.kwargs, Map::new());
        assert_eq!(
            request.eta,
            Some("2026-11-22T14:46:57.929846Z".parse().unwrap())
        );
        assert_eq!(
            request.expires,
            Some("2026-11-22T14:47:47.929846Z".parse().unwrap())
        );
        let limits = TimeLimits {
            hard: Some(Duration::from_secs(30)),
            soft: Some(Duration::from_secs(20)),
        };
        assert_eq!(request.time_limits, limits);
        assert_eq!(request.root_id, request.id);
        assert_eq!(request.parent_id, None);
        assert!(!request.ignore_result);
        assert_eq!(
            request.embed,
            Embed {
                callbacks: vec![signature(
                    "t.integration.tasks.redis_echo",
                    json!([]),
                    json!({})
                )],
                errbacks: vec![signature(
                    "t.integration.tasks.errback_old_style",
                    json!([]),
                    json!({})
                )],
                chain: vec![],
                chord: None,
            }
        );
        assert_eq!(
            request.own_headers(),
            *json!({"x-a": "b"}).as_object().unwrap()
        );
        assert_eq!(request.unsupported(256 << 20), None);
        assert_eq!(
            request.message,
            fixture("link"),
            "kept whole, to be published again"
        );
    }

    #[test]
    fn a_chain_is_stored_reversed() {
        let chain = decode("chain").embed.chain;
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[1].args, [json!(2)]);
        assert_eq!(
            chain[1].task_id(),
            Some("4b3d5a12-d56a-4ed1-b195-0c9ef5aba654")
        );
    }

    #[test]
    fn a_group_member_knows_its_place() {
        let request = decode("group");
        assert_eq!(
            request.group.as_deref(),
            Some("6348cf03-176f-4812-b374-7685d6d5b9f2")
        );
        assert_eq!(request.group_index, Some(0));
    }

    #[test]
    fn a_chord_is_read_but_not_yet_carried_out() {
        let request = decode("chord");
        assert_eq!(
            request.embed.chord.as_ref().unwrap().task,
            "t.integration.tasks.tsum"
        );
        let what = "a task in the header of a chord".to_owned();
        assert_eq!(
            request.unsupported(256 << 20),
            Some(Refusal::Unsupported { what })
        );
    }

    #[test]
    fn stamps_and_nested_signatures_in_arguments() {
        let request = decode("stamp");
        assert_eq!(request.stamped_headers, ["monitoring_id"]);
        assert_eq!(
            request.stamps,
            *json!({"monitoring_id": "abc"}).as_object().unwrap()
        );
        let starmap = decode("chunks");
        assert_eq!(starmap.task, "celery.starmap");
        assert_eq!(starmap.kwargs["it"], json!([[1, 2]]));
    }

    #[test]
    fn a_compressed_body() {
        let request = decode("zlib");
        assert_eq!(request.args, [json!(1), json!(2)]);
        assert_eq!(request.embed.callbacks.len(), 1);
        assert_eq!(request.own_headers(), Map::new());
    }

    #[test]
    fn other_serializers_are_refused_by_name() {
        for (name, content_type) in [
            ("pickle", "application/x-python-serialize"),
            ("yaml", "application/x-yaml"),
            ("msgpack", "application/x-msgpack"),
        ] {
            let error = Request::decode(fixture(name), |_| usize::MAX).unwrap_err();
            assert_eq!(
                error.refusal,
                Refusal::ContentDisallowed {
                    content_type: content_type.into()
                }
            );
            assert_eq!(
                error.id,
                fixture(name).properties.correlation_id,
                "its sender can still be told"
            );
            assert_eq!(error.message, fixture(name));
        }
    }
}

mod refused {
    use super::*;

    fn refused(change: impl FnOnce(&mut Message)) -> String {
        let mut message = fixture("link");
        change(&mut message);
        let error =
            Request::decode(message.clone(), |_| usize::MAX).expect_err("it should be refused");
        assert_eq!(error.message, message, "the message is kept untouched");
        error.refusal.to_string()
    }

    #[test]
    fn bodies() {
        for (body, reason) in [
            ("", "body is not JSON: EOF"),
            ("[1", "body is not JSON: EOF"),
            ("null", "body is null, not [args, kwargs, embed]"),
            ("[[], {}]", "body has 2 elements, not [args, kwargs, embed]"),
            ("[{}, {}, {}]", "args are an object, not an array"),
            ("[[], [], {}]", "kwargs are an array, not an object"),
            ("[[], {}, 1]", "embed is a number, not an object"),
            (
                r#"[[], {}, {"callbacks": [1]}]"#,
                "`callbacks` in embed: invalid signature: a number where an object",
            ),
            (
                r#"[[], {}, {"chain": [{}]}]"#,
                "`chain` in embed: invalid signature: it has no `task`",
            ),
            (
                r#"[[], {}, {"chord": []}]"#,
                "`chord` in embed: invalid signature: an array where an object",
            ),
        ] {
            let refusal = refused(|message| message.body = body.into());
            assert!(
                refusal.starts_with(&format!("malformed message: {reason}")),
                "{body}: {refusal}"
            );
        }
    }

    #[test]
    fn a_body_nested_too_deeply() {
        let deep = format!(
            "[[{}{}], {{}}, null]",
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        assert!(refused(|message| message.body = deep.into()).contains("recursion limit"));
    }

    /// The refusal of a message for a task that takes `limit` bytes.
    fn refused_by(limit: usize, body: Vec<u8>, compression: Value) -> Undecodable {
        let mut message = fixture("link");
        message.headers.insert("compression".into(), compression);
        message.body = body.into();
        let limit = |task: &str| {
            assert_eq!(task, "t.integration.tasks.add");
            limit
        };
        *Request::decode(message, limit).expect_err("it should be refused")
    }

    #[test]
    fn a_body_larger_than_its_task_takes() {
        // not even looked at: it is no JSON
        let undecodable = refused_by(1000, vec![b'['; 1001], Value::Null);
        let refusal = Refusal::ArgumentsTooLarge {
            size: 1001,
            limit: 1000,
        };
        assert_eq!(undecodable.refusal, refusal);
        assert_eq!(
            refusal.to_string(),
            "argument limit of 1000 bytes exceeded: the task was given 1001 bytes or more"
        );
        assert!(undecodable.id.is_some() && undecodable.message.properties.reply_to.is_some());

        let fits = refused_by(1000, vec![b'['; 1000], Value::Null);
        assert!(matches!(fits.refusal, Refusal::Malformed { .. }));
    }

    #[test]
    fn a_body_that_grows_too_large() {
        use std::io::Write;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        let mebibyte = vec![b' '; 1 << 20];
        for _ in 0..65 {
            zlib.write_all(&mebibyte).unwrap();
        }
        let body = zlib.finish().unwrap();
        assert!(body.len() < 1 << 20);
        let undecodable = refused_by(1 << 20, body, json!("application/x-gzip"));
        let refusal = Refusal::ArgumentsTooLarge {
            size: (1 << 20) + 1,
            limit: 1 << 20,
        };
        assert_eq!(
            undecodable.refusal, refusal,
            "no more than this is made of it"
        );
    }

    #[test]
    fn encodings_and_compressions() {
        let truncated = b"x\x9c\x8b\x8e6\xd4Q0\x8a\xd5Q\xa8\xae\x05b\xa5\xe4\xc4\x9c\x9c".to_vec();
        let cases: [(&str, Value, Vec<u8>, &str); 5] = [
            (
                "utf-16",
                Value::Null,
                vec![],
                "content encoding \"utf-16\" is not one of utf-8, binary, base64",
            ),
            ("base64", Value::Null, b"[[]".to_vec(), "body is not base64"),
            (
                "utf-8",
                json!("application/x-bz2"),
                vec![],
                "compression \"application/x-bz2\" is not supported",
            ),
            ("utf-8", json!("gzip"), truncated, "body is not zlib data"),
            (
                "utf-8",
                json!(1),
                vec![],
                "header `compression` is a number",
            ),
        ];
        for (encoding, compression, body, reason) in cases {
            let refusal = refused(|message| {
                message.properties.content_encoding = Some(encoding.into());
                message.headers.insert("compression".into(), compression);
                message.body = body.into();
            });
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn headers() {
        for (name, value, reason) in [
            ("id", Value::Null, "no `id` header"),
            (
                "id",
                json!(7),
                "header `id` is a number where a string was expected",
            ),
            (
                "id",
                json!("x".repeat(256)),
                "header `id` has 256 bytes: at most 255",
            ),
            (
                "x-petiole-requeues",
                json!(-1),
                "header `x-petiole-requeues` is -1, not 0 to 4294967295",
            ),
            (
                "task",
                Value::Null,
                "no `task` header: it was not sent by Celery's protocol 2",
            ),
            (
                "eta",
                json!("soon"),
                "header `eta` is \"soon\", not an ISO 8601 time",
            ),
            (
                "expires",
                json!(60),
                "header `expires` is a number where a string was expected",
            ),
            (
                "retries",
                json!(-1),
                "header `retries` is -1, not 0 to 4294967295",
            ),
            (
                "retries",
                json!("1"),
                "header `retries` is a string where a number was expected",
            ),
            (
                "group_index",
                json!(1e300),
                "header `group_index` is 1e+300, not 0 to 4294967295",
            ),
            (
                "timelimit",
                json!([1]),
                "header `timelimit` has 1 elements, not 2",
            ),
            (
                "timelimit",
                json!([-1, null]),
                "a limit in header `timelimit` is no number of seconds",
            ),
            (
                "timelimit",
                json!(30),
                "header `timelimit` is a number where an array was expected",
            ),
            (
                "ignore_result",
                json!("no"),
                "header `ignore_result` is a string where a boolean was expected",
            ),
            (
                "stamped_headers",
                json!([1]),
                "a name in `stamped_headers` is no string",
            ),
            (
                "stamps",
                json!([]),
                "header `stamps` is an array where an object was expected",
            ),
        ] {
            let refusal = refused(|message| {
                message.headers.insert(name.into(), value);
            });
            assert_eq!(refusal, format!("malformed message: {reason}"));
        }
    }

    #[test]
    fn protocol_1() {
        let refusal = refused(|message| {
            message.headers.clear();
            message.body = br#"{"task": "t.add", "id": "1", "args": [], "kwargs": {}}"#
                .as_slice()
                .into();
        });
        assert!(
            refusal.contains("task protocol 1 is not supported: set task_protocol = 2"),
            "{refusal}"
        );
    }

    #[test]
    fn a_body_without_a_content_type() {
        let refusal = refused(|message| message.properties.content_type = None);
        assert!(
            refusal.starts_with("refusing to decode a body without a content type"),
            "{refusal}"
        );
    }
}

#[test]
fn missing_headers_have_defaults() {
    let mut message = fixture("chain");
    message.headers = Map::from_iter([("task".into(), json!("t")), ("id".into(), json!("1"))]);
    message.properties.content_encoding = Some("base64".into());
    message.body = base64::engine::general_purpose::STANDARD
        .encode("[[], {}, null]")
        .into();
    let request = Request::decode(message, |_| usize::MAX).unwrap();
    assert_eq!(request.root_id, "1");
    assert_eq!(
        (request.retries, request.eta, request.expires),
        (0, None, None)
    );
    assert_eq!(request.time_limits, TimeLimits::default());
    assert_eq!(request.embed, Embed::default());
}

#[test]
fn composes_what_celery_would() {
    let recorded = fixture("link");
    let body: Value = serde_json::from_slice(&recorded.body).unwrap();
    let options = json!({
        "queue": "tapq", "priority": 3, "time_limit": 30, "soft_time_limit": 20, "retries": 0,
        "eta": "2026-11-22T14:46:57.929846+00:00", "expires": "2026-11-22T14:47:47.929846+00:00",
        "reply_to": "006dbe04-dd3d-3945-b8e1-97027811e0c1", "headers": {"x-a": "b"}, "ignore_result": false,
        "link": body[2]["callbacks"][0], "link_error": body[2]["errbacks"],
    });
    let add = signature("t.integration.tasks.add", json!([1, 2]), options);
    let from = Origin {
        origin: "gen19898@vm",
        ..command_line()
    };
    let id = "4864a9fb-9f2d-4501-ae83-21f2197e31df";
    let sent = compose(&add, id, &[], from, &Routes::new("celery"), now()).unwrap();

    assert_eq!(sent.destination, Destination::queue("tapq"));
    assert_eq!(
        sent.not_before,
        Some("2026-11-22T14:46:57.929846Z".parse().unwrap())
    );
    assert!(sent.mandatory);
    let mut properties = recorded.properties;
    properties.expiration = None;
    assert_eq!(sent.message.properties, properties);
    assert_eq!(
        Value::from(sent.message.headers),
        Value::from(recorded.headers)
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&sent.message.body).unwrap(),
        body
    );
}

#[test]
fn execution_options() {
    let routes = || {
        let mut routes = Routes::new("celery");
        routes.add("py.*", Destination::queue("python"));
        routes
    };
    let sent = |options: Value| {
        compose(
            &signature("py.add", json!([]), options),
            "1",
            &[],
            command_line(),
            &routes(),
            now(),
        )
        .unwrap()
    };
    let header = |options: Value, name: &str| sent(options).message.headers[name].clone();

    assert_eq!(sent(json!({})).destination, Destination::queue("python"));
    assert_eq!(
        sent(json!({"queue": "q", "routing_key": "k"})).destination,
        Destination::queue("q")
    );
    assert_eq!(
        sent(json!({"exchange": "x"})).destination,
        Destination::queue("python")
    );
    let topic = Destination {
        exchange: "x".into(),
        routing_key: "k".into(),
    };
    assert_eq!(
        sent(json!({"exchange": "x", "routing_key": "k"})).destination,
        topic
    );

    assert_eq!(
        header(json!({"countdown": 1.5}), "eta"),
        "2026-11-22T12:00:01.500000+00:00"
    );
    assert_eq!(
        sent(json!({"countdown": 2})).not_before,
        Some("2026-11-22T12:00:02Z".parse().unwrap())
    );
    assert_eq!(sent(json!({"countdown": 0})).not_before, None);
    assert_eq!(
        sent(json!({"countdown": 1e15})).not_before,
        Some(Timestamp::MAX)
    );
    assert_eq!(
        sent(json!({"eta": "2026-11-22T11:00:00"})).not_before,
        None,
        "it is past"
    );
    assert_eq!(
        header(json!({"expires": 60}), "expires"),
        "2026-11-22T12:01:00.000000+00:00"
    );
    assert_eq!(header(json!({}), "timelimit"), json!([null, null]));
    assert_eq!(
        header(json!({"group_id": "g", "group_index": 2}), "group_index"),
        2
    );
    assert_eq!(
        header(json!({"root_id": "r", "parent_id": "p"}), "root_id"),
        "r"
    );
    assert_eq!(
        header(json!({"stamped_headers": ["a", "b"], "a": 1}), "stamps"),
        json!({"a": 1})
    );
    assert_eq!(
        header(json!({"headers": {"id": "forged", "x-death": []}}), "id"),
        "1"
    );
    assert_eq!(header(json!({}), "ignore_result"), Value::Null);
    assert!(
        !sent(json!({"delivery_mode": 1}))
            .message
            .properties
            .persistent
    );

    for (options, reason) in [
        (
            json!({"queue": {}}),
            "option `queue` of \"py.add\" is an object where a string was expected",
        ),
        (
            json!({"priority": 256}),
            "option `priority` of \"py.add\" is 256 where an unsigned 8 bit integer was expected",
        ),
        (
            json!({"countdown": "1"}),
            "option `countdown` of \"py.add\" is a string where a number of seconds was expected",
        ),
        (
            json!({"eta": 5}),
            "option `eta` of \"py.add\" is 5 where an ISO 8601 time was expected",
        ),
        (
            json!({"time_limit": -1}),
            "option `time_limit` of \"py.add\" is -1 where a number of seconds was expected",
        ),
        (
            json!({"link": [{}]}),
            "`link` of \"py.add\": invalid signature: it has no `task`",
        ),
        (
            json!({"delivery_mode": 3}),
            "option `delivery_mode` of \"py.add\" is 3 where 1 or 2 was expected",
        ),
    ] {
        let bad = signature("py.add", json!([]), options);
        assert_eq!(bad.check().unwrap_err().reason, reason);
        assert!(compose(&bad, "1", &[], command_line(), &routes(), now()).is_err());
    }
    let chain = Signature {
        subtask_type: Some("chain".into()),
        ..signature("celery.chain", json!([]), json!({}))
    };
    let error = compose(&chain, "1", &[], command_line(), &routes(), now()).unwrap_err();
    assert_eq!(error.reason, "a chain can't be sent as one message");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Often a name with a meaning, so that the code behind it is reached.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "task",
            "id",
            "args",
            "kwargs",
            "options",
            "subtask_type",
            "tasks",
            "callbacks",
            "errbacks",
            "chain",
            "chord",
            "retries",
            "timelimit",
            "eta",
            "expires",
            "stamps",
            "stamped_headers",
            "group",
            "link",
            "compression",
            "task_id",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ]
}

fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((any_key(), any_json()), 0..8)
        .prop_map(|fields| fields.into_iter().collect())
}

fn any_signature() -> impl Strategy<Value = Signature> {
    (
        "[a-z.]{1,12}",
        prop::collection::vec(any_json(), 0..3),
        any_object(),
        any::<bool>(),
        prop::option::of("[a-z]{4}"),
    )
        .prop_map(|(task, args, kwargs, immutable, queue)| {
            let options = queue
                .map(|queue| ("queue".to_owned(), queue.into()))
                .into_iter()
                .collect();
            Signature {
                task,
                args,
                kwargs,
                options,
                subtask_type: None,
                immutable,
            }
        })
}

proptest! {
    #[test]
    fn no_message_panics(
        content_type in prop::option::of(prop::sample::select(vec!["application/json", "application/x-yaml"])),
        content_encoding in prop::option::of(prop::sample::select(vec!["utf-8", "base64", "latin-1"])),
        headers in any_object(),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            any_json().prop_map(|json| json.to_string().into_bytes()),
            (any_json(), any_json(), any_json()).prop_map(|parts| json!([parts.0, parts.1, parts.2]).to_string().into_bytes()),
            any_object().prop_map(|embed| json!([[], {}, embed]).to_string().into_bytes()),
        ],
        with_task in any::<bool>(),
    ) {
        let properties = Properties {
            content_type: content_type.map(str::to_owned),
            content_encoding: content_encoding.map(str::to_owned),
            ..Properties::default()
        };
        let mut message = Message { properties, headers, body: body.into() };
        if with_task {
            message.headers.insert("task".into(), json!("t"));
            message.headers.insert("id".into(), json!("1"));
        }
        match Request::decode(message.clone(), |_| usize::MAX) {
            Ok(request) => {
                request.unsupported(256 << 20);
                prop_assert_eq!(request.message, message);
            }
            Err(error) => prop_assert_eq!(error.message, message),
        }
    }

    #[test]
    fn no_options_panic(options in any_object(), tasks in any_json(), kind in prop::option::of(any_key())) {
        let kwargs = Map::from_iter([("tasks".to_owned(), tasks)]);
        let signature = Signature { task: "t".into(), kwargs, options, subtask_type: kind, ..Signature::default() };
        let composed = compose(&signature, "1", &[], command_line(), &Routes::new("q"), now());
        prop_assert!(composed.is_err() || signature.check().is_ok());
    }

    #[test]
    fn what_is_composed_decodes_to_the_same(
        task in any_signature(),
        link in prop::collection::vec(any_signature(), 0..3),
        link_error in prop::collection::vec(any_signature(), 0..3),
        chain in prop::collection::vec(any_signature(), 0..3),
    ) {
        let list = |signatures: &[Signature]| signatures.iter().map(Signature::to_json).collect::<Vec<_>>();
        let mut signature = task.clone();
        signature.options.insert("link".into(), list(&link).into());
        signature.options.insert("link_error".into(), list(&link_error).into());
        let from = Origin { parent_id: Some("parent"), root_id: Some("root"), origin: "1@test", sent_again: 0 };
        let sent = compose(&signature, "child", &chain, from, &Routes::new("celery"), now()).unwrap();
        let request = Request::decode(sent.message, |_| usize::MAX).unwrap();
        prop_assert_eq!(&request.id, "child");
        prop_assert_eq!(request.task, task.task);
        prop_assert_eq!(request.args, task.args);
        prop_assert_eq!(request.kwargs, task.kwargs);
        prop_assert_eq!(request.embed, Embed { callbacks: link, errbacks: link_error, chain, chord: None });
        prop_assert_eq!((request.root_id.as_str(), request.parent_id.as_deref()), ("root", Some("parent")));
    }
}
