use super::super::republish::REQUEUES_AT_ONCE;
use super::*;

#[test]
fn errbacks_take_the_id_of_the_failed_task() {
    let errback = json!({"task": "py.oops", "args": ["own"]});
    let request = request(
        json!({"link": {"task": "ok"}, "link_error": errback}),
        json!([]),
    );
    let plan = plan_of(&request, failed());
    let [oops] = tasks(&plan).try_into().unwrap();
    assert_eq!(oops.id, child_id(ID, 0, ChildKind::Errback, 0));
    assert_eq!(
        (oops.task.as_str(), oops.args.as_slice()),
        ("py.oops", [json!(ID), json!("own")].as_slice())
    );
    assert_eq!(
        (oops.root_id.as_str(), oops.parent_id.as_deref()),
        ("root", Some(ID))
    );
    assert_eq!(
        oops.group,
        Some(child_id(ID, 0, ChildKind::Group, 1)),
        "even one errback is a group in Celery"
    );
    assert_eq!(
        plan.results[0].to_json(),
        json!({
            "status": "FAILURE", "traceback": "wasm trace", "children": [],
            "result": {"exc_type": "Boom", "exc_message": ["it broke"], "exc_module": "shop.errors"},
            "date_done": "2026-11-22T12:00:00.000000+00:00", "parent_id": "parent", "task_id": ID,
        })
    );
    assert_eq!(plan.settle, Settle::Ack);
}

#[test]
fn the_rest_of_the_chain_fails_too() {
    let body = json!({"task": "sum", "options": {"task_id": "body"}});
    let chain = json!([
        {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [], "body": body}},
        {"task": "third", "args": [3], "options": {"task_id": "3", "group_id": "g", "reply_to": "client"}},
        {"task": "second"},
    ]);
    let request = request(json!({"group_id": "own"}), chain);
    let plan = plan_of(&request, failed());
    assert_eq!(
        statuses(&plan),
        [(ID, "FAILURE"), ("3", "FAILURE"), ("body", "FAILURE")]
    );
    assert_eq!(plan.results[0].group_id.as_deref(), Some("own"));
    assert_eq!(plan.results[1].group_id.as_deref(), Some("g"));
    assert_eq!(plan.results[1].traceback.as_deref(), Some("wasm trace"));
    assert!(plan.publications.is_empty());
}

#[test]
fn rejection_for_good_is_a_failure_that_is_dead_lettered() {
    let request = request(json!({"link_error": {"task": "oops"}}), json!([]));
    let plan = plan_of(
        &request,
        Outcome::Reject {
            requeue: false,
            reason: "no".into(),
        },
    );
    assert_eq!(plan.settle, Settle::Reject);
    let reason = "no".to_owned();
    assert_eq!(plan.ended, Ended::Rejected { reason });
    assert_eq!(plan.results[0].result["exc_type"], "Reject");
    assert_eq!(plan.results[0].result["exc_message"], json!(["no", false]));
    assert_eq!(names(&tasks(&plan)), ["oops"]);
}

#[test]
fn ignoring_leaves_no_trace() {
    let request = request(
        json!({"link": {"task": "ok"}, "link_error": {"task": "oops"}}),
        json!([]),
    );
    let plan = plan_of(&request, Outcome::Ignore);
    assert_eq!((plan.results, plan.publications), (vec![], vec![]));
    assert_eq!((plan.settle, plan.ended), (Settle::Ack, Ended::Ignored));
}

#[test]
fn a_message_goes_back_to_its_queue_so_often() {
    let options = json!({"link_error": {"task": "oops"}, "priority": 3});
    let mut request = request(options, json!([]));
    let requeue = || Outcome::Reject {
        requeue: true,
        reason: "later".into(),
    };
    let mut waited = SignedDuration::ZERO;
    for requeues in 1..=MAX_REQUEUES {
        let plan = plan_of(&request, requeue());
        let [back] = plan.publications.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(back.destination, Destination::queue("wasm"));
        assert_eq!((plan.results.len(), plan.settle), (0, Settle::Ack));
        let reason = "later".to_owned();
        assert_eq!(plan.ended, Ended::Requeued { reason });
        let wait = back.not_before.map(|until| until.duration_since(now()));
        waited += wait.unwrap_or_default();
        assert_eq!(wait.is_none(), requeues <= REQUEUES_AT_ONCE);
        let again = Request::decode(back.message.clone(), |_| usize::MAX).unwrap();
        assert_eq!((again.requeues, &again.id), (requeues, &request.id));
        assert_eq!(again.message.body, request.message.body);
        assert_eq!(again.message.properties, request.message.properties);
        request = again;
    }
    assert_eq!(waited, SignedDuration::from_secs(10));
    let plan = plan_of(&request, requeue());
    let reason = "later".to_owned();
    assert_eq!(plan.ended, Ended::Rejected { reason });
    assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
    assert_eq!(plan.results[0].result["exc_type"], "Reject");
    assert_eq!(names(&tasks(&plan)), ["oops"]);
    assert_eq!(plan.settle, Settle::Reject);
}

#[test]
fn ignored_results_are_not_stored_but_followed() {
    let chain = json!([{"task": "next", "options": {"task_id": "2"}}]);
    let options =
        json!({"ignore_result": true, "link": {"task": "ok"}, "link_error": {"task": "oops"}});
    let request = request(options, chain);
    for (outcome, sent) in [
        (Outcome::Success(json!(1)), vec!["ok", "next"]),
        (failed(), vec!["oops"]),
    ] {
        let plan = plan_of(&request, outcome);
        assert_eq!(plan.results, []);
        assert_eq!(names(&tasks(&plan)), sent);
    }
    assert_eq!(plan_of(&request, retry(RetryAt::Default, None)).results, []);
}

#[test]
fn a_large_failure_is_not_repeated_for_a_long_chain() {
    let steps: Vec<Value> = (0..1_000)
        .map(|step| json!({"task": "t", "options": {"task_id": step.to_string()}}))
        .collect();
    let request = request(json!({}), steps.into());
    for (size, whole) in [(60_000, true), (70_000, false)] {
        let exception = Exception::new("shop.errors", "Boom", "x".repeat(size));
        let plan = plan_of(
            &request,
            Outcome::Failure {
                exception: exception.clone(),
                traceback: Some("wasm trace".into()),
            },
        );
        let [own, steps @ ..] = plan.results.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(own.result, exception.to_json());
        assert_eq!(steps.len(), 1_000);
        let short = Exception::new("shop.errors", "Boom", format!("{}...", "x".repeat(1024)));
        let expected = if whole { exception } else { short }.to_json();
        assert!(steps.iter().all(|step| step.result == expected));
        assert!(steps.iter().all(|step| step.traceback.is_some() == whole));
    }
}
