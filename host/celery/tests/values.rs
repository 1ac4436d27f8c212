//! Values pass unchanged: what Python's JSON says is the same after it was read and written, and where it is forwarded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "values/python.rs"]
mod python;
mod support;

use bolero::check;
use jiff::Timestamp;
use petiole_celery::json::{self, Foreign, Text, parse};
use petiole_celery::plan::{Plan, ResultMode, Source, plan};
use petiole_celery::{
    Exception, Message, Origin, Outcome, Properties, Request, Routes, Signature, compose,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

use python::loads;
use support::{policy, ran};

/// JSON that serde_json has no value for, or another.
const EXOTIC: [&str; 22] = [
    "-0",
    "18446744073709551616",
    "-9223372036854775809",
    "123456789012345678901234567890123456789012345678901234567890",
    "-100000000000000000000",
    "1e999",
    "-1E+400",
    "179769313486231580793728971405304e276",
    "NaN",
    "Infinity",
    "-Infinity",
    r#""\ud800""#,
    r#""\uDFFF\ud83d\ude00""#,
    r#""a \"quoted\" \\ud \ud83d""#,
    r#""\ud83d\ud83d\ude00\n""#,
    "\"\u{10FFFF}\"",
    "\"\u{10FFFF}NaN\"",
    "\"\u{10FFFF}\\\"\u{10FFFF}NaN\\\"\"",
    r#""\udbff\udfff-0""#,
    r#""\uDBFF\uDFFF \ud800""#,
    r#"{"\ud800": 1, "\uD800": 2, "a": NaN}"#,
    "{\"\u{10FFFF}NaN\": {\"\\udfff\": [-0, \"\\ud800\"]}}",
];

/// JSON that it has the same value for.
const PLAIN: [&str; 17] = [
    "null",
    "true",
    "0",
    "-0.0",
    "-1",
    "18446744073709551615",
    "-9223372036854775808",
    "1.7976931348623157e308",
    "179769313486231580793728971405303e276",
    "2.2250738585072014e-308",
    "1e-999",
    "0e999",
    "123456789012345678901234567890.5",
    r#""\ud83d\ude00 NaN -0 \u10ff""#,
    r#""\\ud800 \\""#,
    "\"e \u{10FFFF}\"",
    r#"{"a": [1, "-Infinity"]}"#,
];

fn written(text: &str) -> String {
    let value = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    Text(&value).to_string()
}

/// Read and written, it says the same to Python; and what Python does not read is not read here.
fn assert_kept(text: &str) {
    match (parse(text.as_bytes()), loads(text)) {
        (Ok(value), Some(meant)) => {
            let written = Text(&value).to_string();
            assert_eq!(loads(&written), Some(meant), "{text} as {written}");
            assert_eq!(json::size(&value), written.len());
            assert_eq!(parse(written.as_bytes()).unwrap(), value);
        }
        (Err(_), None) => {}
        (read, meant) => panic!("{text} is {meant:?}, and read as {read:?}"),
    }
}

#[test]
fn each_value_is_kept() {
    for text in EXOTIC.into_iter().chain(PLAIN) {
        for around in [
            text.to_owned(),
            format!("[{text}]"),
            format!(" [1,{text} ,\n{text}]"),
            format!(r#"{{"a":{text} , "b\\":{{"":{text}}}}}"#),
        ] {
            assert_kept(&around);
        }
        // as it was, but for space
        let spaceless = |text: &str| text.replace(' ', "");
        if EXOTIC.contains(&text) {
            assert_eq!(spaceless(&written(text)), spaceless(text));
        }
    }
}

#[test]
fn what_is_no_json_stays_none() {
    for text in [
        "",
        "nan",
        "+1",
        "-",
        "--0",
        "-00",
        "-0-0",
        "00",
        "-NaN",
        "+Infinity",
        "Infinity1",
        "NaN NaN",
        "NaNNaN",
        r#"NaN"a""#,
        r#""a"NaN"#,
        "[NaN",
        "[NaN:1]",
        "[,NaN]",
        "{NaN}",
        "{NaN:1}",
        "{-0 : 1}",
        "{99999999999999999999\t\n:1}",
        r#"{"a":NaN:1}"#,
        r#"{"a" "\ud800"}"#,
        "1e999e1",
        "1.e999",
        "1e+",
        "99999999999999999999.",
        "099999999999999999999",
        "0x99999999999999999999",
        r#""\ud800"#,
        r#""\ud800\""#,
        r#""\ud800\x""#,
        r#""\ud80""#,
        r#""\ud80g""#,
        "\"\\ud800\n\"",
        "\"\u{10FFFF}\u{1}\"",
        "\u{10FFFF}NaN",
        "\u{feff}NaN",
    ] {
        assert_kept(text);
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse(b"\"\\ud800\xed\xa0\x80\"").is_err());
    let deep = |levels| format!("{}NaN{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(deep(127).as_bytes()).is_ok());
    assert!(parse(deep(128).as_bytes()).is_err());
    assert!(parse(deep(1_000_000).as_bytes()).is_err());
}

/// A text that only looks like what is kept aside comes back as the text that it is.
#[test]
fn a_string_from_elsewhere_is_itself() {
    for text in EXOTIC {
        for text in [text.to_owned(), format!("\u{10FFFF}{text}")] {
            let value = json::string(text.clone());
            assert_eq!(json::text(&value).unwrap(), text);
            let written = Text(&value).to_string();
            assert_eq!(parse(written.as_bytes()).unwrap(), value);
            let meant = python::Py::Str(text.encode_utf16().collect());
            assert_eq!(loads(&written), Some(meant));
        }
    }
    // whatever stands in a value, what is written is JSON
    let careless = Map::from_iter([
        ("\u{10FFFF}NaN".to_owned(), Value::from("\u{10FFFF}nan")),
        ("\u{10FFFF}\"\n\"".to_owned(), Value::from("\u{10FFFF}")),
    ]);
    let written = Text(&Value::Object(careless)).to_string();
    assert_eq!(
        written,
        "{\"\u{10FFFF}NaN\":\"\u{10FFFF}nan\",\"\u{10FFFF}\\\"\\n\\\"\":\"\u{10FFFF}\"}"
    );
}

#[test]
fn a_reader_sees_what_is_meant() {
    let value = |text: &str| parse(text.as_bytes()).unwrap();
    for (text, float) in [
        ("1", Some(1.0)),
        ("-0", Some(-0.0)),
        ("NaN", Some(f64::NAN)),
        ("Infinity", Some(f64::INFINITY)),
        ("-1e999", Some(f64::NEG_INFINITY)),
        ("18446744073709551617", Some(18_446_744_073_709_551_616.0)),
        ("\"NaN\"", None),
        ("\"\u{10FFFF}1\"", None),
        ("\"\\ud800\"", None),
    ] {
        let read = json::float(&value(text));
        assert_eq!(read.map(f64::to_bits), float.map(f64::to_bits), "{text}");
        assert_eq!(json::is_number(&value(text)), float.is_some(), "{text}");
    }
    let past = value(&"9".repeat(400));
    assert!(json::float(&past).is_none() && json::is_number(&past) && json::is_integer(&past));

    assert_eq!(json::integer::<u8>(&value("-0")), Some(0));
    assert_eq!(json::integer::<i64>(&value("18446744073709551615")), None);
    assert_eq!(json::integer::<u64>(&value("18446744073709551616")), None);
    assert_eq!(json::integer::<u64>(&value("1.0")), None);

    let text = |of: &str| json::text(&value(of)).map(|text| text.into_owned());
    assert_eq!(text(r#""\udbff\udfffNaN""#).unwrap(), "\u{10FFFF}NaN");
    assert_eq!(text(r#""\ud83d""#), None);
    assert_eq!(text("NaN"), None);

    for (text, told) in [
        (
            r#"[1, {"a": NaN}]"#,
            Some("NaN, which is no JSON (RFC 8259)"),
        ),
        (
            r#"{"\ud800": 1}"#,
            Some(r#""\ud800", which has a lone surrogate"#),
        ),
        ("[1e999]", Some("1e999, which is past the largest f64")),
        ("[-0, 18446744073709551616]", None),
        (r#"["\udbff\udfff"]"#, None),
    ] {
        let value = value(text);
        let foreign = json::foreign(&value).map(|foreign: Foreign<'_>| foreign.to_string());
        assert_eq!(foreign.as_deref(), told, "{text}");
    }
}

fn token() -> impl Strategy<Value = String> {
    let of =
        |tokens: &[&'static str]| prop::sample::select(tokens.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        4 => of(&EXOTIC),
        4 => of(&PLAIN),
        2 => "-?[0-9]{1,22}",
        2 => "-?[0-9]{1,3}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?",
        2 => "\"([a-z ]|\\\\u(d[89a-f][0-9a-f]{2}|[0-9A-F]{4})|\\\\[\"\\\\/bfnrtx]|\u{10FFFF}|\u{7f}|\u{e9}){0,6}\"",
    ]
}

/// JSON of such tokens, and what is nearly JSON.
fn text() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", "", "", " ", "\n\t"]);
    let inner = token().prop_recursive(4, 24, 5, move |inner| {
        let value = (space(), inner, space())
            .prop_map(|(before, value, after)| format!("{before}{value}{after}"));
        let name = token().prop_map(|token| match token.starts_with('"') {
            true => token,
            false => r#""name""#.to_owned(),
        });
        let member = (space(), name, space(), value.clone())
            .prop_map(|(before, name, after, value)| format!("{before}{name}{after}:{value}"));
        prop_oneof![
            prop::collection::vec(value, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..5)
                .prop_map(|items| format!("{{{}}}", items.join(","))),
        ]
    });
    let sign = prop::sample::select(vec![
        "", "", ",", ":", "[", "]", "{", "}", "\"", "\\", " ", "-",
    ]);
    let soup = (token(), sign).prop_map(|(token, sign)| format!("{token}{sign}"));
    prop_oneof![
        3 => inner.clone(),
        1 => prop::collection::vec(soup, 0..6).prop_map(|tokens| tokens.concat()),
        2 => (inner, any::<prop::sample::Index>(), "[-\"\\\\,:\\[\\]{}0Ne. ]?").prop_map(|(mut text, at, sign)| {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            match sign.is_empty() && at < text.len() {
                true => drop(text.remove(at)),
                false => text.insert_str(at, &sign),
            }
            text
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]
    #[test]
    fn any_value_is_kept(text in text()) {
        assert_kept(&text);
    }
}

#[test]
fn any_bytes_are_kept_or_refused() {
    check!()
        .with_iterations(20_000)
        .for_each(|bytes: &[u8]| match str::from_utf8(bytes) {
            Ok(text) => assert_kept(text),
            Err(_) => assert!(parse(bytes).is_err()),
        });
}

const ID: &str = "5d2ab1a0-0000-4000-8000-000000000001";

fn request(body: &str) -> Request {
    let headers = serde_json::json!({"task": "t", "id": ID});
    let message = Message {
        properties: Properties {
            content_type: Some("application/json".into()),
            ..Properties::default()
        },
        headers: headers.as_object().unwrap().clone(),
        body: body.to_owned().into(),
    };
    Request::decode(message, |_| usize::MAX).unwrap_or_else(|error| panic!("{error:?}"))
}

fn planned(request: &Request, outcome: Outcome, results: ResultMode) -> Plan {
    let source = Source {
        exchange: String::new(),
        routing_key: "celery".into(),
        queue: "celery".into(),
    };
    plan(
        request,
        ran(outcome),
        &source,
        &policy(results),
        Timestamp::UNIX_EPOCH,
    )
}

fn bodies(plan: &Plan) -> Vec<String> {
    let publications = plan.publications.iter();
    publications
        .map(|sent| String::from_utf8(sent.message.body.to_vec()).unwrap())
        .collect()
}

/// In the arguments of a task and of what is linked to it or follows it, and in its result.
#[test]
fn what_is_forwarded_is_the_same() {
    for text in EXOTIC {
        let text = text.replace(' ', "");
        let signature = |task: &str| {
            format!(
                r#"{{"task":"{task}","args":[{text}],"kwargs":{{"k":{text}}},"options":{{"task_id":"{task}"}},"subtask_type":null,"immutable":false}}"#
            )
        };
        let [link, errback, next, last] = ["link", "errback", "next", "last"].map(signature);
        let request = request(&format!(
            r#"[[{text}],{{"k":{text}}},{{"callbacks":[{link}],"errbacks":[{errback}],"chain":[{last},{next}]}}]"#
        ));
        assert_eq!(request.unsupported(256 << 20), None);
        let result = || parse(text.as_bytes()).unwrap();

        let done = planned(&request, Outcome::Success(result()), ResultMode::Stored);
        let called = format!(r#"[[{text},{text}],{{"k":{text}}},"#);
        let sent = bodies(&done);
        assert_eq!(sent.len(), 2);
        assert!(
            sent.iter().all(|body| body.starts_with(&called)),
            "{sent:?}"
        );
        assert!(sent[1].contains(&last), "{sent:?}");
        let stored = done.results[0].to_text();
        for part in [
            format!(r#""result":{text},"#),
            format!(r#""args":[{text}],"kwargs":{{"k":{text}}}"#),
        ] {
            assert!(stored.contains(&part), "{stored}");
        }
        let argsrepr = done.publications[0].message.headers["argsrepr"].as_str();
        let shown = format!("({text}, {text})");
        assert!(
            text.starts_with('{') || argsrepr == Some(&shown),
            "{argsrepr:?}"
        );

        let exception = Exception {
            exc_message: vec![result()],
            ..Exception::new("builtins", "ValueError", "")
        };
        let failure = Outcome::Failure {
            exception,
            traceback: None,
        };
        let failed = planned(&request, failure, ResultMode::Stored);
        let called = format!(r#"[["{ID}",{text}],{{"k":{text}}},"#);
        assert!(bodies(&failed)[0].starts_with(&called));
        assert_eq!(failed.results.len(), 3);
        for meta in &failed.results {
            let stored = meta.to_text();
            assert!(
                stored.contains(&format!(r#""exc_message":[{text}]"#)),
                "{stored}"
            );
        }
    }
}

#[test]
fn a_reply_says_the_same() {
    let mut request = request("[[NaN], {}, {}]");
    request.message.properties.reply_to = Some("replies".into());
    let result = parse(b"[-0, \"\\ud800\"]").unwrap();
    let plan = planned(&request, Outcome::Success(result), ResultMode::Reply);
    let [reply] = bodies(&plan).try_into().unwrap();
    assert!(reply.contains(r#""result":[-0,"\ud800"],"#) && reply.contains(r#""args":[NaN]"#));
}

fn composed(options: &str) -> Result<Message, String> {
    let signature = format!(r#"{{"task":"t","options":{options}}}"#);
    let signature = Signature::from_value(parse(signature.as_bytes()).unwrap()).unwrap();
    let from = Origin {
        parent_id: None,
        root_id: None,
        origin: "1@h",
        sent_again: 0,
    };
    let sent = compose(
        &signature,
        ID,
        &[],
        from,
        &Routes::new("celery"),
        Timestamp::UNIX_EPOCH,
    );
    sent.map(|sent| sent.message)
        .map_err(|error| error.reason.to_string())
}

/// AMQP has a float for each of Python's, and no integer past 64 bits.
#[test]
fn headers_are_in_amqps_types() {
    let options = r#"{"headers": {"a": [NaN, -1e999, -0, 18446744073709551616], "\udbff\udfffNaN": "\udbff\udfffNaN"},
        "stamped_headers": ["s"], "s": Infinity, "time_limit": -0}"#;
    let headers = composed(options).unwrap().headers;
    let float = |name: &str| serde_json::json!({"__type__": "amqp.f64", "__value__": name});
    assert_eq!(
        headers["a"],
        serde_json::json!([float("NaN"), float("-Infinity"), 0, "18446744073709551616"])
    );
    assert_eq!(headers["\u{10FFFF}NaN"], "\u{10FFFF}NaN");
    assert_eq!(headers["stamps"]["s"], float("Infinity"));
    assert_eq!(headers["timelimit"][0], 0);
    let refused = composed(r#"{"headers": {"a": "\ud800"}}"#).unwrap_err();
    assert_eq!(
        refused,
        "header \"a\" of \"t\" has a lone surrogate, which AMQP can't carry"
    );
}

/// The values are those that Celery 5.7's own code makes of each.
#[test]
fn options_are_read_as_celery_reads_them() {
    let noon = "2026-11-22T12:00:00.000000+00:00";
    let midnight = "2026-11-22T00:00:00.000000+00:00";
    let tagged =
        |kind: &str, value: &str| format!(r#"{{"__type__":"{kind}","__value__":"{value}"}}"#);
    for (name, value, header) in [
        ("eta", tagged("datetime", "2026-11-22T12:00:00"), noon),
        ("eta", tagged("datetime", "2026-11-22T14:00:00+02:00"), noon),
        ("eta", tagged("date", "2026-11-22"), midnight),
        ("eta", tagged("date", "2026-11-22T12:00:00"), midnight),
        ("expires", tagged("datetime", "2026-11-22T12:00:00"), noon),
        (
            "expires",
            "-0".to_owned(),
            "1970-01-01T00:00:00.000000+00:00",
        ),
    ] {
        let headers = composed(&format!(r#"{{"{name}":{value}}}"#))
            .unwrap()
            .headers;
        assert_eq!(headers[name], header, "{name} {value}");
    }
    for zero in [
        tagged("decimal", "0"),
        tagged("decimal", "-0.00"),
        tagged("decimal", "0E+2"),
    ] {
        let headers = composed(&format!(r#"{{"countdown":{zero}}}"#))
            .unwrap()
            .headers;
        assert_eq!(headers["eta"], Value::Null);
    }
    for (name, value, found) in [
        ("eta", tagged("datetime", "soon"), r#"kombu's "datetime""#),
        ("eta", tagged("time", "12:00:00"), r#"kombu's "time""#),
        ("eta", tagged("decimal", "5"), r#"kombu's "decimal""#),
        ("eta", "NaN".to_owned(), "NaN"),
        (
            "eta",
            r#""\ud800""#.to_owned(),
            "a string with a lone surrogate",
        ),
        (
            "eta",
            r#""\udbff\udfff""#.to_owned(),
            "a string that begins with U+10FFFF",
        ),
        ("expires", tagged("date", "2026-11-22"), r#"kombu's "date""#),
        ("expires", tagged("decimal", "5"), r#"kombu's "decimal""#),
        ("expires", "NaN".to_owned(), "NaN"),
        ("countdown", tagged("decimal", "5"), r#"kombu's "decimal""#),
        (
            "countdown",
            tagged("decimal", "1E-999"),
            r#"kombu's "decimal""#,
        ),
        (
            "countdown",
            tagged("datetime", "2026-11-22T12:00:00"),
            r#"kombu's "datetime""#,
        ),
        ("countdown", "Infinity".to_owned(), "Infinity"),
        ("countdown", "1e30".to_owned(), "1e+30"),
        (
            "priority",
            "18446744073709551616".to_owned(),
            "18446744073709551616",
        ),
        ("queue", "NaN".to_owned(), "NaN"),
    ] {
        let refused = composed(&format!(r#"{{"{name}":{value}}}"#)).unwrap_err();
        let expected = format!("option `{name}` of \"t\" is {found} where ");
        assert!(refused.starts_with(&expected), "{refused}");
    }
}

/// A text that is no name is not taken for one.
#[test]
fn names_are_text() {
    for (signature, reason) in [
        (r#"{"task": NaN}"#, "it has no `task`"),
        (r#"{"task": "\ud800"}"#, "it has no `task`"),
        (
            r#"{"task": "t", "subtask_type": -0}"#,
            "`subtask_type` of \"t\" is a number where a string was expected",
        ),
        (
            r#"{"task": "t", "args": NaN}"#,
            "`args` of \"t\" is a number where an array was expected",
        ),
    ] {
        let read = Signature::from_value(parse(signature.as_bytes()).unwrap());
        assert_eq!(read.unwrap_err().reason, reason);
    }
}
