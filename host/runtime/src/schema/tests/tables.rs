//! JSON <-> WIT values and binding, case by case.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use petiole_celery::Refusal;
use serde_json::{Value, json};
use wasmtime::component::Val;

use crate::schema::bind::{self, ArgumentError, Arguments};
use crate::schema::from_json;
use crate::schema::function_type::FunctionType;
use crate::schema::json_texts::{JsonTexts, ValueMemory};
use crate::schema::mismatch::Mismatch;

use crate::schema::tests::types::{enumeration, json_text, list, names, option, record, variant};
use crate::schema::to_json;
use crate::schema::wit_type::{Name, WitType};

fn to_json(ty: &WitType, val: Val) -> Result<Value, to_json::ToJsonError> {
    to_json::to_json(ty, val, &mut JsonTexts::new(usize::MAX))
}

fn from_json(ty: &WitType, value: &Value) -> Result<Val, Mismatch> {
    from_json::from_json(ty, value, &mut ValueMemory::new(usize::MAX))
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

/// JSON that only Python has, or has exactly.
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

/// Text that a guest returns is that text, and JSON that JSON.
fn function(params: &[(&str, WitType)]) -> FunctionType {
    let params = params
        .iter()
        .map(|(name, ty)| (Name::new(name), ty.clone()))
        .collect();
    FunctionType {
        params,
        result: None,
    }
}

fn bind(ty: &FunctionType, args: &Value, kwargs: Value) -> Result<Arguments, ArgumentError> {
    bind_within(ty, args, kwargs, usize::MAX)
}

fn bind_within(
    ty: &FunctionType,
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
    let anything = function(&[("args", list(WitType::Json)), ("kwargs", list(pair))]);
    let of = |ty| function(&[("x", list(ty))]);
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
    let ty = function(&[
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
    let none = bind(&function(&[]), &json!([]), json!({"z": 1})).unwrap_err();
    assert_eq!(
        none.to_string(),
        r#"m.f: unknown argument "z"; it takes none"#
    );
}

#[test]
fn args_and_kwargs_take_anything() {
    let pair = WitType::Tuple(vec![WitType::String, WitType::Json]);
    let ty = function(&[
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
    assert!(!function(&[("args", list(WitType::Json)), ("more", list(pair))]).takes_anything());
    let kwargs = |text: &str| petiole_celery::json::parse(text.as_bytes()).unwrap();
    let marked = bind(&ty, &json!([]), kwargs(r#"{"\udbff\udfff": 1}"#)).unwrap();
    assert!(format!("{:?}", marked.vals).contains(r#"Tuple([String("\u{10ffff}")"#));
    let refused = bind(&ty, &json!([]), kwargs(r#"{"\ud800": 1}"#)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"m.f: argument kwargs[0]: expected string, got "\ud800", which has a lone surrogate"#
    );
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
