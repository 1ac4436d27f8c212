//! The limits of the wire are enforced here, never left to a broker.

use super::super::republish::REQUEUES_AT_ONCE;
use super::*;
use crate::wire::{self, BODY_LIMIT};

fn assert_sendable(plan: &Plan) {
    for publication in &plan.publications {
        assert_eq!(wire::check(publication), Ok(()));
    }
}

fn exception(plan: &Plan) -> &Exception {
    match &plan.ended {
        Ended::Failure { exception, .. } => exception,
        other => panic!("{other:?}"),
    }
}

fn text(exception: &Exception) -> &str {
    exception.exc_message[0].as_str().unwrap()
}

/// Options with which no message can be sent, and the errors for them.
fn hopeless() -> Vec<(Value, &'static str)> {
    let large = "x".repeat(140_000);
    vec![
        (
            json!({"queue": "q".repeat(300)}),
            "the routing key has 300 bytes",
        ),
        (
            json!({"exchange": "e".repeat(300), "routing_key": "k"}),
            "the exchange has 300 bytes",
        ),
        (
            json!({"task_id": "i".repeat(300)}),
            "the correlation id has 300 bytes",
        ),
        (
            json!({"reply_to": "r".repeat(300)}),
            "the reply-to has 300 bytes",
        ),
        (
            json!({"shadow": large}),
            "the largest is \"shadow\" with 140005",
        ),
        (
            json!({"headers": {"h": large}}),
            "the largest is \"h\" with 140005",
        ),
        (
            json!({"headers": {"n".repeat(256): 1}}),
            "has 256 bytes, over the limit of 255",
        ),
        (
            json!({"queue": "q".repeat(200), "countdown": 5}),
            "the name has 200 bytes, over the limit of 199",
        ),
        (
            json!({"headers": {"deep": (0..70).fold(json!(1), |inner, _| json!([inner]))}}),
            "nested deeper than 60 levels",
        ),
    ]
}

#[test]
fn a_producers_callback_is_refused_before_the_run() {
    for (options, reason) in hopeless() {
        let hopeless = json!({"task": "py.next", "options": options});
        let group = json!({
            "task": "celery.group", "subtask_type": "group",
            "kwargs": {"tasks": [hopeless.clone()]}, "options": {"task_id": "g"},
        });
        let nested = json!({
            "task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{"task": "py.first"}, hopeless.clone()]},
        });
        for request in [
            request(json!({"link": [hopeless.clone()]}), json!([])),
            request(json!({"link_error": [hopeless.clone()]}), json!([])),
            request(json!({}), json!([hopeless.clone()])),
            request(json!({"link": [group]}), json!([])),
            request(json!({"link": [nested]}), json!([])),
        ] {
            let refusal = request.unsupported(256 << 20).expect(reason);
            assert!(refusal.to_string().contains(reason), "{refusal}");
            let plan = refuse(&request, &refusal, &source(), &policy(), now());
            assert_sendable(&plan);
            assert_eq!(statuses(&plan)[0], (ID, "FAILURE"));
            let kept = plan.publications.last().unwrap();
            assert_eq!(kept.destination.routing_key, "kept");
        }
    }
    let large = json!({"task": "x".repeat(140_000)});
    let request = request(json!({"link": [large]}), json!([]));
    assert!(request.unsupported(256 << 20).is_some());
}

#[test]
fn what_a_guest_sends_is_its_own_failure() {
    for (options, reason) in hopeless() {
        let request = request(json!({"link": [{"task": "py.next"}]}), json!([]));
        let sent = signature(json!({"task": "py.odd", "options": options}));
        let ran = Ran {
            sent: vec![sent],
            ..ran(Outcome::Success(json!(1)))
        };
        let plan = plan(&request, ran, &source(), &policy(), now());
        assert_eq!(plan.publications, [], "{reason}");
        assert!(text(exception(&plan)).contains(reason), "{:?}", plan.ended);
    }
}

#[test]
fn a_result_too_large_for_a_callback_is_a_failure() {
    let large = json!("x".repeat(BODY_LIMIT));
    for request in [
        request(
            json!({"link": [{"task": "py.next"}], "link_error": [{"task": "py.oops"}]}),
            json!([]),
        ),
        request(
            json!({"link_error": [{"task": "py.oops"}]}),
            json!([{"task": "py.step", "options": {"task_id": "step"}}]),
        ),
    ] {
        let plan = plan_of(&request, Outcome::Success(large.clone()));
        assert_sendable(&plan);
        assert_eq!(names(&tasks(&plan)), ["py.oops"]);
        let exception = exception(&plan);
        assert_eq!(exception.exc_module, "petiole.exceptions");
        assert_eq!(exception.exc_type, "ResultTooLarge");
        assert!(text(exception).contains("over the limit of 16777216"));
        assert!(
            statuses(&plan)
                .iter()
                .all(|(_, status)| *status == "FAILURE")
        );
    }
}

fn waited_for(options: Value) -> (Request, Policy) {
    let mut options = options;
    options["reply_to"] = json!("waiting");
    let policy = Policy {
        results: ResultMode::Reply,
        result_extended: true,
        ..policy()
    };
    (request(options, json!([])), policy)
}

/// The reply of a plan: status and exception.
fn reply(plan: &Plan) -> (String, Value) {
    let reply = plan.publications.iter().find(|one| !one.mandatory).unwrap();
    let meta: Value = serde_json::from_slice(&reply.message.body).unwrap();
    let status = meta["status"].as_str().unwrap().to_owned();
    (status, meta["result"].clone())
}

#[test]
fn who_waits_for_a_result_too_large_hears() {
    let (request, policy) = waited_for(json!({"link": [{"task": "py.next", "immutable": true}]}));
    let outcomes = [
        Outcome::Success(json!("x".repeat(BODY_LIMIT))),
        Outcome::Failure {
            exception: Exception::new("m", "E", "x".repeat(BODY_LIMIT)),
            traceback: None,
        },
        Outcome::Failure {
            exception: boom(),
            traceback: Some("x".repeat(BODY_LIMIT)),
        },
    ];
    for outcome in outcomes {
        let plan = plan(&request, ran(outcome), &source(), &policy, now());
        assert_sendable(&plan);
        let (status, result) = reply(&plan);
        assert_eq!(status, "FAILURE");
        assert_eq!(result["exc_type"], "ResultTooLarge");
        assert!(tasks_but_replies(&plan).is_empty());
    }
}

fn tasks_but_replies(plan: &Plan) -> Vec<&Publication> {
    plan.publications
        .iter()
        .filter(|one| one.mandatory)
        .collect()
}

#[test]
fn who_waits_for_large_arguments_hears_too() {
    let (mut request, policy) = waited_for(json!({}));
    request.args = vec![json!("x".repeat(BODY_LIMIT))];
    let plan = plan(&request, ran(failed()), &source(), &policy, now());
    assert_sendable(&plan);
    assert_eq!(reply(&plan).0, "FAILURE");
}

#[test]
fn a_state_too_large_for_a_reply_is_left_out() {
    let (request, policy) = waited_for(json!({}));
    let large = json!("x".repeat(BODY_LIMIT));
    let state = State::Custom("PROGRESS".into());
    let (stored, replies) = update(&request, state, large, &source(), &policy, now());
    assert!(stored.is_empty() && replies.is_empty());
}

#[test]
fn what_can_not_run_again_fails() {
    let long = Source {
        queue: "q".repeat(200),
        ..source()
    };
    let far = RetryAt::Eta("2099-01-01T00:00:00Z".parse().unwrap());
    let pattern = Source {
        queue: "a.*".into(),
        ..source()
    };
    let request = request(json!({"link_error": [{"task": "py.oops"}]}), json!([]));
    for (source, when, reason) in [
        (&long, RetryAt::Default, "the name has 200 bytes"),
        (&pattern, RetryAt::Default, "a word * or #"),
        (&source(), far, "over the limit of 268435455 s"),
    ] {
        let plan = plan(&request, ran(retry(when, None)), source, &policy(), now());
        assert_eq!(statuses(&plan), [(ID, "FAILURE")], "{reason}");
        assert_eq!(names(&tasks(&plan)), ["py.oops"]);
        assert!(text(exception(&plan)).contains(reason), "{:?}", plan.ended);
        assert!(text(exception(&plan)).contains("Boom(\"it broke\")"));

        let until = "2099-01-01T00:00:00Z".parse().unwrap();
        let refusal = postpone(&request, until, source, now()).unwrap_err();
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
    let plan = plan(
        &request,
        ran(retry(RetryAt::Countdown(Duration::ZERO), None)),
        &long,
        &policy(),
        now(),
    );
    assert_eq!(
        statuses(&plan),
        [(ID, "RETRY")],
        "at once it needs no delay"
    );
}

#[test]
fn a_message_given_back_too_often_for_its_queue_fails() {
    let mut request = request(json!({}), json!([]));
    request.requeues = REQUEUES_AT_ONCE;
    let source = Source {
        queue: "q".repeat(200),
        ..source()
    };
    let outcome = Outcome::Reject {
        requeue: true,
        reason: "busy".into(),
    };
    let plan = plan(&request, ran(outcome), &source, &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
    assert!(text(exception(&plan)).contains("requeued after Reject(\"busy\")"));
}

#[test]
fn a_message_that_fills_its_frame_is_kept_in_an_envelope() {
    let mut request = request(json!({}), json!([]));
    let filler = json!("x".repeat(130_700));
    request.message.headers.insert("filler".into(), filler);
    let refusal = Refusal::UnknownTask { task: "t".into() };
    let plan = refuse(&request, &refusal, &source(), &policy(), now());
    assert_sendable(&plan);
    let kept = plan.publications.last().unwrap().message.clone();
    let opened = Kept::open(kept).unwrap();
    assert_eq!(opened.message, request.message);
    assert_eq!(opened.destination, Destination::queue("wasm"));
}
