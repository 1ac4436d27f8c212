//! JSON <-> WIT values, binding and failures, case by case.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use petiole_celery::{Exception, Outcome, Refusal, RetryAt};
use petiole_permits::Limit;
use serde_json::{Value, json};
use wasmtime::component::Val;

use crate::outcome::{self, Ended};
use crate::schema::bind::{self, ArgumentError, Arguments};
use crate::schema::from_json;
use crate::schema::json_texts::{JsonTexts, ValueMemory};
use crate::schema::mismatch::Mismatch;
use crate::schema::signature::Shape;
use crate::schema::to_json;
use crate::schema::wit_type::{Case, Field, Name, WitType};

fn to_json(ty: &WitType, val: Val) -> Result<Value, to_json::ToJsonError> {
    to_json::to_json(ty, val, &mut JsonTexts::new(usize::MAX))
}

fn from_json(ty: &WitType, value: &Value) -> Result<Val, Mismatch> {
    from_json::from_json(ty, value, &mut ValueMemory::new(usize::MAX))
}

fn returned(ty: Option<&WitType>, val: Option<Val>, limit: usize) -> Ended {
    outcome::returned(ty, val, JsonTexts::new(limit))
}

fn option(ty: WitType) -> WitType {
    WitType::Option(Box::new(ty))
}

fn list(ty: WitType) -> WitType {
    WitType::List(Box::new(ty))
}

fn record(fields: &[(&str, WitType)]) -> WitType {
    WitType::record(
        fields
            .iter()
            .map(|(name, ty)| Field {
                name: Name::new(name),
                ty: ty.clone(),
            })
            .collect(),
    )
}

fn variant(cases: &[(&str, Option<WitType>)]) -> WitType {
    WitType::Variant(
        cases
            .iter()
            .map(|(name, ty)| Case {
                name: Name::new(name),
                ty: ty.clone(),
            })
            .collect(),
    )
}

fn enumeration(cases: &[&str]) -> WitType {
    WitType::Enum(names(cases).into_iter().collect())
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::new(name)).collect()
}

fn point() -> WitType {
    record(&[("x-pos", WitType::S32), ("label", option(WitType::String))])
}

/// Of the most cases that a type may have. A search through them for each value would take minutes.
#[test]
fn a_case_is_found_as_quickly_among_many() {
    const CASES: usize = 10_000;
    const VALUES: usize = 2_000_000;
    let case_names: Vec<String> = (0..CASES).map(|n| format!("the-case-{n}")).collect();
    let case_names: Vec<&str> = case_names.iter().map(String::as_str).collect();
    let cases: Vec<_> = case_names.iter().map(|name| (*name, None)).collect();
    let last = json!("the_case_9999");
    let values = json!(vec![last; VALUES]);
    let started = Instant::now();
    for ty in [list(variant(&cases)), list(enumeration(&case_names))] {
        let val = from_json(&ty, &values).unwrap();
        assert!(to_json(&ty, val).unwrap() == values);
        let taken = started.elapsed();
        assert!(taken < Duration::from_secs(60), "{taken:?}");
    }
}

/// Read as the same value that is written back in the one form on the right.
#[test]
fn each_form_is_read_and_one_is_written() {
    let ext = |kind: &str, value: Value| json!({"__type__": kind, "__value__": value});
    let shape = variant(&[("round-one", Some(WitType::F64)), ("none", None)]);
    for (ty, read, written) in [
        (WitType::U64, json!(u64::MAX), json!(u64::MAX)),
        (WitType::U64, json!("18446744073709551615"), json!(u64::MAX)),
        (WitType::S64, json!("-9223372036854775808"), json!(i64::MIN)),
        (WitType::F64, json!(3), json!(3.0)),
        (WitType::F64, json!("NaN"), json!("NaN")),
        (WitType::F32, json!("-Infinity"), json!("-Infinity")),
        (WitType::F32, json!(0.5), json!(0.5)),
        (WitType::Char, json!("ß"), json!("ß")),
        (WitType::Bytes, json!("aGk"), json!("aGk=")),
        (WitType::Bytes, json!([]), json!("")),
        (WitType::Bytes, ext("base64", json!("aGk=")), json!("aGk=")),
        (
            WitType::String,
            ext("datetime", json!("2026-01-02T03:04:05")),
            json!("2026-01-02T03:04:05"),
        ),
        (
            WitType::String,
            ext("decimal", json!("1.10")),
            json!("1.10"),
        ),
        (
            WitType::String,
            ext("uuid", json!({"hex": "00112233445566778899aabbccddeeff"})),
            json!("00112233-4455-6677-8899-aabbccddeeff"),
        ),
        (option(option(WitType::U8)), json!(null), json!(null)),
        (
            option(option(WitType::U8)),
            json!({"some": null}),
            json!({"some": null}),
        ),
        (
            option(option(WitType::U8)),
            json!({"some": 1}),
            json!({"some": 1}),
        ),
        (
            point(),
            json!({"x-pos": 1}),
            json!({"x_pos": 1, "label": null}),
        ),
        (
            point(),
            json!({"label": "a", "x_pos": 1}),
            json!({"x_pos": 1, "label": "a"}),
        ),
        (
            enumeration(&["too-big"]),
            json!("too-big"),
            json!("too_big"),
        ),
        (
            WitType::Flags(names(&["a", "b-c", "d"])),
            json!(["d", "b_c", "d"]),
            json!(["b_c", "d"]),
        ),
        (shape.clone(), json!("none"), json!("none")),
        (shape.clone(), json!({"none": null}), json!("none")),
        (shape, json!({"round_one": 2}), json!({"round_one": 2.0})),
        (
            WitType::Result(None, Some(Box::new(WitType::U8))),
            json!({"ok": null}),
            json!({"ok": null}),
        ),
        (
            WitType::Result(None, Some(Box::new(WitType::U8))),
            json!({"err": 7}),
            json!({"err": 7}),
        ),
        (
            WitType::Json,
            json!({"any": [1, null]}),
            json!({"any": [1, null]}),
        ),
        (
            WitType::Tuple(vec![WitType::Bool, WitType::U8]),
            json!([true, 1]),
            json!([true, 1]),
        ),
    ] {
        let val = from_json(&ty, &read).unwrap_or_else(|error| panic!("{ty}: {error}"));
        assert_eq!(to_json(&ty, val).unwrap(), written, "{ty} from {read}");
    }
}

#[test]
fn what_does_not_fit_says_where() {
    for (ty, value, message) in [
        (WitType::U8, json!(300), ": expected u8 (0 to 255), got 300"),
        (
            WitType::U64,
            json!(-1),
            ": expected u64 (0 to 18446744073709551615), got -1",
        ),
        (WitType::S64, json!("two"), r#": expected s64, got "two""#),
        (WitType::S32, json!("2"), r#": expected s32, got "2""#),
        (WitType::S64, json!(2.0), ": expected s64, got 2.0"),
        (
            WitType::S64,
            json!(u64::MAX),
            ": expected s64 (-9223372036854775808 to 9223372036854775807), got 18446744073709551615",
        ),
        (WitType::F32, json!(1e300), ": expected f32, got 1e+300"),
        (WitType::Bool, json!(1), ": expected bool, got 1"),
        (WitType::Char, json!("ab"), r#": expected char, got "ab""#),
        (WitType::Char, json!(""), r#": expected char, got """#),
        (
            WitType::Bytes,
            json!("*"),
            r#": expected list<u8>, got "*""#,
        ),
        (
            WitType::Bytes,
            json!([256]),
            ": expected list<u8>, got [256]",
        ),
        (
            WitType::Tuple(vec![WitType::U8]),
            json!([1, 2]),
            ": expected tuple<u8>, got [1,2]",
        ),
        (
            list(point()),
            json!([{"x_pos": 1}, {}]),
            "[1]: missing field x_pos: s32",
        ),
        (
            list(point()),
            json!([{"x_pos": null}]),
            "[0].x_pos: expected s32, got null",
        ),
        (
            point(),
            json!({"x_pos": 1, "y": 2}),
            r#": unknown field "y"; it has x_pos, label"#,
        ),
        (
            point(),
            json!({"x_pos": 1, "x-pos": 2}),
            ": field x_pos is given twice",
        ),
        (
            enumeration(&["a"]),
            json!("b"),
            r#": expected enum { a }, got "b""#,
        ),
        (
            WitType::Flags(names(&["a"])),
            json!(["b"]),
            r#": expected flags { a }, got ["b"]"#,
        ),
        (
            variant(&[("a", Some(WitType::U8))]),
            json!({"a": "x"}),
            r#".a: expected u8, got "x""#,
        ),
        (
            variant(&[("a", Some(WitType::U8))]),
            json!("a"),
            r#": expected variant { a(u8) }, got "a""#,
        ),
        (
            option(option(WitType::U8)),
            json!(1),
            ": expected option<option<u8>>, got 1",
        ),
        (
            WitType::Result(None, None),
            json!({"ok": 1}),
            r#": expected result, got {"ok":1}"#,
        ),
    ] {
        assert_eq!(from_json(&ty, &value).unwrap_err().to_string(), message);
    }
    let long = from_json(&WitType::U8, &json!("x".repeat(1_000_000)))
        .unwrap_err()
        .to_string();
    assert!(long.len() < 200 && long.ends_with("..."), "{long}");
}

/// What only Python's JSON has, or has exactly.
#[test]
fn each_type_takes_pythons_values_or_says_why_not() {
    let float = |x: f64| Ok(Val::Float64(x));
    let past = "1".repeat(400);
    let told = |message: &str| Err(message.to_owned());
    let any = |text: &str| Ok(json_text(text.to_owned()));
    let string = |text: &str| Ok(Val::String(text.to_owned()));
    for (ty, text, expected) in [
        (WitType::F64, "NaN", float(f64::NAN)),
        (WitType::F64, "-Infinity", float(f64::NEG_INFINITY)),
        (WitType::F64, "1e999", float(f64::INFINITY)),
        (WitType::F64, "-0", float(-0.0)),
        (
            WitType::F64,
            "18446744073709551617",
            float(18_446_744_073_709_551_616.0),
        ),
        (
            WitType::F64,
            past.as_str(),
            told(&format!(": expected f64, got {}...", &past[..100])),
        ),
        (
            WitType::F64,
            r#""\ud800""#,
            told(r#": expected f64, got "\ud800", which has a lone surrogate"#),
        ),
        (WitType::F32, "Infinity", Ok(Val::Float32(f32::INFINITY))),
        (
            WitType::F32,
            "18446744073709551617",
            Ok(Val::Float32(18_446_744_073_709_551_616.0)),
        ),
        (WitType::S8, "-0", Ok(Val::S8(0))),
        (WitType::U64, "-0", Ok(Val::U64(0))),
        (
            WitType::U64,
            "18446744073709551616",
            told(": expected u64 (0 to 18446744073709551615), got 18446744073709551616"),
        ),
        (
            WitType::S64,
            "-9223372036854775809",
            told(
                ": expected s64 (-9223372036854775808 to 9223372036854775807), got -9223372036854775809",
            ),
        ),
        (WitType::S16, "NaN", told(": expected s16, got NaN")),
        (WitType::U32, "1e999", told(": expected u32, got 1e999")),
        (
            WitType::String,
            r#""\udbff\udfffNaN""#,
            string("\u{10FFFF}NaN"),
        ),
        (WitType::String, "\"\u{10FFFF}-0\"", string("\u{10FFFF}-0")),
        (WitType::String, "NaN", told(": expected string, got NaN")),
        (WitType::String, "-0", told(": expected string, got -0")),
        (
            WitType::String,
            r#""a\ud800""#,
            told(r#": expected string, got "a\ud800", which has a lone surrogate"#),
        ),
        (
            WitType::String,
            r#"{"__type__": "decimal", "__value__": NaN}"#,
            told(r#": expected string, got {"__type__":"decimal","__value__":NaN}"#),
        ),
        (
            WitType::Char,
            r#""\udbff\udfff""#,
            Ok(Val::Char('\u{10FFFF}')),
        ),
        (
            WitType::Char,
            r#""\udc00""#,
            told(r#": expected char, got "\udc00", which has a lone surrogate"#),
        ),
        (
            WitType::Bytes,
            r#"{"__type__": "bytes", "__value__": "\udbff\udfff"}"#,
            string("9I+/vw=="),
        ),
        (WitType::Bytes, "[-0, 1]", string("AAE=")),
        (
            enumeration(&["a"]),
            r#""\ud800""#,
            told(r#": expected enum { a }, got "\ud800", which has a lone surrogate"#),
        ),
        (
            point(),
            r#"{"x_pos": 1, "\ud800": 2}"#,
            told(r#": unknown field "\ud800"; it has x_pos, label"#),
        ),
        (
            WitType::Json,
            "[-0,18446744073709551616]",
            any("[-0,18446744073709551616]"),
        ),
        (
            WitType::Json,
            r#"{"\udbff\udfff": 1}"#,
            any(r#"{"\udbff\udfff":1}"#),
        ),
        (
            WitType::Json,
            r#"{"a": [NaN]}"#,
            told(": expected JSON, got NaN, which is no JSON (RFC 8259)"),
        ),
        (
            WitType::Json,
            r#"[{"\ud800": 1}]"#,
            told(r#": expected JSON, got "\ud800", which has a lone surrogate"#),
        ),
        (
            WitType::Json,
            "[1e999]",
            told(": expected JSON, got 1e999, which is past the largest f64"),
        ),
    ] {
        let value = petiole_celery::json::parse(text.as_bytes()).unwrap();
        let read = from_json(&ty, &value).map_err(|mismatch| mismatch.to_string());
        assert_eq!(read, expected, "{ty} from {text}");
    }
}

/// What a guest returns as text is that text, and what it returns as JSON that JSON.
#[test]
fn results_are_what_the_guest_meant() {
    for (ty, val, written) in [
        (
            WitType::String,
            Val::String("\u{10FFFF}NaN".to_owned()),
            "\"\u{10FFFF}NaN\"",
        ),
        (WitType::Json, json_text("[NaN, -0]".to_owned()), "[NaN,-0]"),
        (
            WitType::Json,
            json_text(r#"{"\ud800": 123456789012345678901234567890}"#.to_owned()),
            r#"{"\ud800":123456789012345678901234567890}"#,
        ),
    ] {
        let json = to_json(&ty, val).unwrap();
        assert_eq!(petiole_celery::json::Text(&json).to_string(), written);
    }
    let limit = |limit| {
        let text = json_text(r#"[NaN,"\ud800"]"#.to_owned());
        returned(Some(&WitType::Json), Some(text), limit).limit
    };
    assert_eq!((limit(14), limit(13)), (None, Some(Limit::Result)));
}

fn shape(params: &[(&str, WitType)]) -> Shape {
    let params = params
        .iter()
        .map(|(name, ty)| (Name::new(name), ty.clone()))
        .collect();
    Shape {
        params,
        result: None,
    }
}

fn bind(ty: &Shape, args: &Value, kwargs: Value) -> Result<Arguments, ArgumentError> {
    bind_within(ty, args, kwargs, usize::MAX)
}

fn bind_within(
    ty: &Shape,
    args: &Value,
    kwargs: Value,
    limit: usize,
) -> Result<Arguments, ArgumentError> {
    let kwargs = kwargs.as_object().unwrap();
    bind::bind("m.f", ty, args.as_array().unwrap(), kwargs, limit)
}

/// Small JSON may stand for many values. What arguments take is in proportion to the limit of their size.
#[test]
fn arguments_that_would_take_too_much_memory_are_too_large() {
    const LIMIT: usize = 1 << 20;
    let names: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    let fields = names
        .iter()
        .map(|name| (name.as_str(), option(WitType::U8)));
    let fields: Vec<_> = fields.collect();
    let pair = WitType::Tuple(vec![WitType::String, WitType::Json]);
    let anything = shape(&[("args", list(WitType::Json)), ("kwargs", list(pair))]);
    let of = |ty| shape(&[("x", list(ty))]);
    let many = |value: Value, size| json!([vec![value; LIMIT / size]]);
    for (ty, args) in [
        (of(record(&fields)), many(json!({}), 3)),
        (of(WitType::Json), many(json!(0), 2)),
        (of(option(WitType::U8)), many(json!(0), 2)),
        (anything, json!(vec![0; LIMIT / 2])),
    ] {
        let error = bind_within(&ty, &args, json!({}), LIMIT / 4).unwrap_err();
        let refusal = Refusal::from(error);
        let too_large =
            matches!(refusal, Refusal::ArgumentsTooLarge { size, limit } if size > limit);
        assert!(too_large, "{refusal:?}");
    }
    // as large as they may be
    for (ty, value, size) in [
        (WitType::S64, json!(1), 2),
        (WitType::String, json!("a"), 4),
        (WitType::Bool, json!(true), 5),
        (point(), json!({"x_pos": 1}), 12),
        (enumeration(&["a"]), json!("a"), 4),
    ] {
        let args = many(value, size);
        let bound = bind_within(&of(ty), &args, json!({}), LIMIT);
        assert!(bound.is_ok(), "{bound:?}");
    }
}

#[test]
fn arguments_bind_as_in_python() {
    let ty = shape(&[
        ("x", WitType::S64),
        ("in-between", option(WitType::U8)),
        ("y", WitType::S64),
        ("last-one", option(WitType::U8)),
    ]);
    let some = Val::Option(Some(Box::new(Val::U8(3))));
    for (args, kw, vals) in [
        (
            json!([1, null, 2]),
            json!({}),
            [
                Val::S64(1),
                Val::Option(None),
                Val::S64(2),
                Val::Option(None),
            ],
        ),
        (
            json!([1, 3, 2, 3]),
            json!({}),
            [Val::S64(1), some.clone(), Val::S64(2), some.clone()],
        ),
        (
            json!([1]),
            json!({"y": 2, "in_between": 3, "last-one": 3}),
            [Val::S64(1), some.clone(), Val::S64(2), some],
        ),
    ] {
        let bound = bind(&ty, &args, kw).unwrap();
        assert_eq!(bound.vals, vals);
    }
    for (args, kw, message) in [
        (
            json!(["two"]),
            json!({}),
            r#"m.f: argument x: expected s64, got "two""#,
        ),
        (json!([1, null]), json!({}), "m.f: missing argument y: s64"),
        (
            json!([1]),
            json!({"y": 1}),
            "m.f: missing argument in_between: option<u8>",
        ),
        (
            json!([1, 2, 3, 4, 5]),
            json!({}),
            "m.f: takes at most 4 arguments, got 5",
        ),
        (
            json!([1]),
            json!({"x": 1}),
            "m.f: argument x is given twice",
        ),
        (
            json!([]),
            json!({"last-one": 1, "last_one": 1, "x": 1}),
            "m.f: missing argument in_between: option<u8>",
        ),
        (
            json!([]),
            json!({"z": 1}),
            r#"m.f: unknown argument "z"; it takes x, in_between, y, last_one"#,
        ),
    ] {
        let error = bind(&ty, &args, kw).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let none = bind(&shape(&[]), &json!([]), json!({"z": 1})).unwrap_err();
    assert_eq!(
        none.to_string(),
        r#"m.f: unknown argument "z"; it takes none"#
    );
}

#[test]
fn args_and_kwargs_take_anything() {
    let pair = WitType::Tuple(vec![WitType::String, WitType::Json]);
    let ty = shape(&[
        ("args", list(WitType::Json)),
        ("kwargs", list(pair.clone())),
    ]);
    assert!(ty.takes_anything());
    let bound = bind(&ty, &json!([1, "x"]), json!({"k": [null]}));
    let bound = bound.unwrap().vals;
    let [args, kwargs] = bound.as_slice() else {
        panic!("{bound:?}")
    };
    assert_eq!(
        to_json(&list(WitType::Json), args.clone()).unwrap(),
        json!([1, "x"])
    );
    assert_eq!(
        to_json(&list(pair.clone()), kwargs.clone()).unwrap(),
        json!([["k", [null]]])
    );
    assert!(!shape(&[("args", list(WitType::Json)), ("more", list(pair))]).takes_anything());
    let kwargs = |text: &str| petiole_celery::json::parse(text.as_bytes()).unwrap();
    let marked = bind(&ty, &json!([]), kwargs(r#"{"\udbff\udfff": 1}"#)).unwrap();
    assert!(format!("{:?}", marked.vals).contains(r#"Tuple([String("\u{10ffff}")"#));
    let refused = bind(&ty, &json!([]), kwargs(r#"{"\ud800": 1}"#)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"m.f: argument kwargs[0]: expected string, got "\ud800", which has a lone surrogate"#
    );
}

/// `task-error`, as a guest defines it.
fn task_error() -> WitType {
    let failure = record(&[
        ("exc-type", WitType::String),
        (
            "exc-message",
            list(record(&[("petiole-json", WitType::String)])),
        ),
        ("exc-module", option(WitType::String)),
    ]);
    let at = variant(&[
        ("default", None),
        ("countdown-ms", Some(WitType::U64)),
        ("eta-ms", Some(WitType::U64)),
    ]);
    let retry = record(&[
        ("reason", failure.clone()),
        ("at", at),
        ("max-retries", option(WitType::U32)),
    ]);
    let reject = record(&[("reason", WitType::String), ("requeue", WitType::Bool)]);
    variant(&[
        ("fail", Some(failure)),
        ("retry", Some(retry)),
        ("reject", Some(reject)),
        ("ignore", None),
    ])
}

fn outcome_of_err(err: WitType, value: Value) -> Outcome {
    let val = from_json(&err, &value).unwrap_or_else(|error| panic!("{error}"));
    let ty = WitType::Result(None, Some(Box::new(err)));
    returned(
        Some(&ty),
        Some(Val::Result(Err(Some(Box::new(val))))),
        1_000,
    )
    .outcome
}

fn exception(exc_type: &str, args: Value, exc_module: &str) -> Exception {
    Exception {
        exc_type: exc_type.to_owned(),
        exc_message: args.as_array().unwrap().clone(),
        exc_module: exc_module.to_owned(),
    }
}

#[test]
fn a_task_error_is_celerys_four_ways_out() {
    let reason =
        json!({"exc_type": "ValueError", "exc_message": ["bad", 1], "exc_module": "builtins"});
    let plain = json!({"exc_type": "Busy", "exc_message": []});
    let value_error = exception("ValueError", json!(["bad", 1]), "builtins");
    let busy = exception("Busy", json!([]), "petiole.exceptions");
    let retry = |at, max_retries| Outcome::Retry {
        exception: busy.clone(),
        at,
        max_retries,
    };
    let eta = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
    for (value, outcome) in [
        (
            json!({"fail": reason}),
            Outcome::Failure {
                exception: value_error,
                traceback: None,
            },
        ),
        (
            json!({"retry": {"reason": plain, "at": "default"}}),
            retry(RetryAt::Default, None),
        ),
        (
            json!({"retry": {"reason": plain, "at": {"countdown_ms": 1500}, "max_retries": 9}}),
            retry(RetryAt::Countdown(Duration::from_millis(1500)), Some(9)),
        ),
        (
            json!({"retry": {"reason": plain, "at": {"eta_ms": 1_700_000_000_000_u64}}}),
            retry(RetryAt::Eta(eta), None),
        ),
        (
            json!({"reject": {"reason": "poison", "requeue": true}}),
            Outcome::Reject {
                requeue: true,
                reason: "poison".to_owned(),
            },
        ),
        (json!("ignore"), Outcome::Ignore),
    ] {
        assert_eq!(outcome_of_err(task_error(), value), outcome);
    }
    let far = json!({"retry": {"reason": plain, "at": {"eta_ms": u64::MAX}}});
    let Outcome::Failure { exception, .. } = outcome_of_err(task_error(), far) else {
        panic!("not a failure")
    };
    assert_eq!(exception.exc_type, "InvalidRetry");
}

#[test]
fn other_errs_are_failures() {
    let shop = variant(&[("not-found", None), ("over-limit", Some(WitType::U32))]);
    let report = record(&[("line", WitType::U32)]);
    for (ty, value, exc_type, args) in [
        (WitType::String, json!("no"), "TaskError", json!(["no"])),
        (
            enumeration(&["not-found"]),
            json!("not_found"),
            "NotFound",
            json!([]),
        ),
        (shop.clone(), json!("not-found"), "NotFound", json!([])),
        (shop, json!({"over_limit": 5}), "OverLimit", json!([5])),
        (
            report,
            json!({"line": 3}),
            "TaskError",
            json!([{"line": 3}]),
        ),
        (
            WitType::Json,
            json!({"any": 1}),
            "TaskError",
            json!([{"any": 1}]),
        ),
    ] {
        let exception = exception(exc_type, args, "petiole.exceptions");
        assert_eq!(
            outcome_of_err(ty, value),
            Outcome::Failure {
                exception,
                traceback: None
            }
        );
    }
    let ty = WitType::Result(None, None);
    let exception = exception("TaskError", json!([]), "petiole.exceptions");
    let outcome = returned(Some(&ty), Some(Val::Result(Err(None))), 1_000).outcome;
    assert_eq!(
        outcome,
        Outcome::Failure {
            exception,
            traceback: None
        }
    );
}

#[test]
fn a_json_record_must_hold_json() {
    let bad = Val::Record(vec![(
        "petiole-json".to_owned(),
        Val::String("{".to_owned()),
    )]);
    let Outcome::Failure { exception, .. } =
        returned(Some(&WitType::Json), Some(bad), 1_000).outcome
    else {
        panic!("not a failure")
    };
    assert_eq!(exception.exc_type, "InvalidResult");
}

/// What holds a result must be readable too.
#[test]
fn a_result_of_too_many_levels_is_invalid() {
    let levels = |levels| json_text(format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let nested = |within: Val| Val::List(vec![within]);
    let ty = list(WitType::Json);
    let of = |val| Some(Val::Result(Err(Some(Box::new(val)))));
    let err = WitType::Result(None, Some(Box::new(ty.clone())));
    let deepest = returned(Some(&ty), Some(nested(levels(99))), 1_000).outcome;
    let Outcome::Success(result) = deepest else {
        panic!("{deepest:?}")
    };
    let stored = json!({"result": result, "children": [[["id", null], []]]}).to_string();
    assert!(serde_json::from_str::<Value>(&stored).is_ok());
    for too_deep in [
        returned(Some(&ty), Some(nested(levels(100))), 1_000),
        returned(Some(&err), of(nested(levels(100))), 1_000),
    ] {
        let message = "the result has more than 100 levels of arrays and objects";
        let exception = exception("InvalidResult", json!([message]), "petiole.exceptions");
        let expected = Outcome::Failure {
            exception,
            traceback: None,
        };
        assert_eq!(too_deep.outcome, expected);
    }
}

fn json_text(text: String) -> Val {
    Val::Record(vec![("petiole-json".to_owned(), Val::String(text))])
}

/// These are no JSON: that is not found out.
#[test]
fn json_texts_are_bounded_together_before_they_are_read() {
    let text = |bytes| json_text("[".repeat(bytes));
    let failure = |texts| {
        Val::Record(vec![
            ("exc-type".to_owned(), Val::String("Busy".to_owned())),
            ("exc-message".to_owned(), Val::List(texts)),
            ("exc-module".to_owned(), Val::Option(None)),
        ])
    };
    let fail = |texts| {
        let case = Val::Variant("fail".to_owned(), Some(Box::new(failure(texts))));
        Val::Result(Err(Some(Box::new(case))))
    };
    let task = WitType::Result(None, Some(Box::new(task_error())));
    let two = || vec![json_text("\"x\"".to_owned()), text(998)];
    for (ty, val, size) in [
        (WitType::Json, text(5_000_000), 5_000_000),
        (list(WitType::Json), Val::List(two()), 1_001),
        (task.clone(), fail(two()), 1_001),
    ] {
        let ended = returned(Some(&ty), Some(val), 1_000);
        let message =
            format!("the result counts as {size} bytes of JSON or more: the limit is 1000");
        let expected = exception("ResultTooLarge", json!([message]), "petiole.exceptions");
        let outcome = Outcome::Failure {
            exception: expected,
            traceback: None,
        };
        assert_eq!((ended.outcome, ended.limit), (outcome, Some(Limit::Result)));
    }
    let ended = returned(Some(&task), Some(fail(vec![text(1_000)])), 1_000);
    let Outcome::Failure { exception, .. } = ended.outcome else {
        panic!("not a failure")
    };
    assert_eq!(exception.exc_type, "InvalidResult");
}

/// 40 bytes of a [`Val`] each, and far more of JSON in the end: that is not made.
#[test]
fn values_are_bounded_before_they_are_json() {
    const VALUES: usize = 1_000_000;
    let of = |name: &str| Val::Variant(name.to_owned(), Some(Box::new(Val::U8(1))));
    for (ty, val) in [
        (WitType::U8, Val::U8(1)),
        (
            option(option(WitType::U8)),
            Val::Option(Some(Box::new(Val::Option(None)))),
        ),
        (variant(&[("a", Some(WitType::U8))]), of("a")),
        (
            WitType::Flags(names(&["a"])),
            Val::Flags(vec!["a".to_owned()]),
        ),
    ] {
        let mut texts = JsonTexts::new(1_000);
        let val = Val::List(vec![val; VALUES]);
        let error = to_json::to_json(&list(ty), val, &mut texts).unwrap_err();
        let to_json::ToJsonError::TooLarge { size, limit } = error else {
            panic!("{error}")
        };
        assert!(size > limit);
        // the list, at most
        assert!(texts.values.taken() < (VALUES + 1) * size_of::<Value>() + 33_000_000);
    }
}

/// However large a result may be, its values take no more than there is for them; what they have is told.
#[test]
fn values_stay_within_what_there_is_for_them() {
    let ty = list(WitType::Json);
    let returned = |count| {
        let val = Val::List(vec![json_text(r#"{"a": ["b"]}"#.to_owned()); count]);
        outcome::returned(
            Some(&ty),
            Some(val),
            JsonTexts::new(1 << 20).within(100_000),
        )
    };
    let ended = returned(100);
    assert_eq!(ended.limit, None);
    // each has an object, a name, an array and a text
    assert!(
        (20_000..=100_000).contains(&ended.memory()),
        "{}",
        ended.memory()
    );
    let ended = returned(1_000);
    assert_eq!(ended.limit, Some(Limit::Result));
    assert!(format!("{ended:?}").contains("100000 bytes of memory that one may take"));
}

#[test]
fn names_of_exceptions_are_bounded() {
    let name = |bytes| "N".repeat(bytes);
    let failure = |class: usize, module: usize| json!({"exc_type": name(class), "exc_message": [], "exc_module": name(module)});
    let retry =
        |class, module| json!({"retry": {"reason": failure(class, module), "at": "default"}});
    let fail = |class, module| json!({"fail": failure(class, module)});
    let long = "n".repeat(256);
    let case = enumeration(&[&long]);
    for (ty, value, said) in [
        (task_error(), fail(256, 1), "class is 256 bytes"),
        (task_error(), fail(1, 256), "module is 256 bytes"),
        (task_error(), retry(900, 1), "class is 900 bytes"),
        (task_error(), retry(1, 900), "module is 900 bytes"),
        (case, json!(long), "class is 256 bytes"),
    ] {
        let message = format!("the name of the exception's {said}: the limit is 255");
        let exception = exception("InvalidResult", json!([message]), "petiole.exceptions");
        let expected = Outcome::Failure {
            exception,
            traceback: None,
        };
        assert_eq!(outcome_of_err(ty, value), expected);
    }
    let outcome = outcome_of_err(task_error(), retry(255, 255));
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
}
