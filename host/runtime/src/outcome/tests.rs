//! Results and failures, case by case.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use jiff::Timestamp;
use petiole_celery::{Exception, Outcome, RetryAt};
use petiole_permits::Limit;
use serde_json::{Value, json};
use wasmtime::component::Val;

use crate::outcome::{Ended, returned};
use crate::schema::from_json;
use crate::schema::json_texts::{JsonTexts, ValueMemory};
use crate::schema::mismatch::Mismatch;
use crate::schema::tests::types::{enumeration, json_text, list, option, record, variant};
use crate::schema::to_json::to_json;
use crate::schema::wit_type::WitType;

fn from_json(ty: &WitType, value: &Value) -> Result<Val, Mismatch> {
    from_json::from_json(ty, value, &mut ValueMemory::new(usize::MAX))
}

fn returned(ty: Option<&WitType>, val: Option<Val>, limit: usize) -> Ended {
    returned::returned(ty, val, JsonTexts::new(limit))
}

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
        let json = to_json(&ty, val, &mut JsonTexts::new(usize::MAX)).unwrap();
        assert_eq!(petiole_celery::json::Text(&json).to_string(), written);
    }
    let limit = |limit| {
        let text = json_text(r#"[NaN,"\ud800"]"#.to_owned());
        returned(Some(&WitType::Json), Some(text), limit).limit
    };
    assert_eq!((limit(14), limit(13)), (None, Some(Limit::Result)));
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

/// A result is stored in an object, which must be readable too.
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

/// However large a result may be, its values take no more than there is for them; the message names the limit.
#[test]
fn values_stay_within_what_there_is_for_them() {
    let ty = list(WitType::Json);
    let returned = |count| {
        let val = Val::List(vec![json_text(r#"{"a": ["b"]}"#.to_owned()); count]);
        returned::returned(
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
