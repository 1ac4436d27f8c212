use super::*;

#[test]
fn replies_go_to_the_client_last() {
    let chain = json!([{"task": "next", "options": {"task_id": "2", "reply_to": "client2"}}]);
    let request = request(
        json!({"reply_to": "client", "link_error": {"task": "oops"}}),
        chain,
    );
    let policy = Policy {
        results: ResultMode::Reply,
        ..policy()
    };
    let plan = plan(&request, ran(failed()), &source(), &policy, now());
    assert_eq!(plan.results, []);
    let [_, own, next] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    for (reply, queue, id) in [(own, "client", ID), (next, "client2", "2")] {
        assert_eq!(reply.destination, Destination::queue(queue));
        assert_eq!(reply.message.properties.correlation_id.as_deref(), Some(id));
        assert!(!reply.mandatory && !reply.message.properties.persistent);
        let meta: Value = serde_json::from_slice(&reply.message.body).unwrap();
        assert_eq!(
            (&meta["task_id"], &meta["status"]),
            (&json!(id), &json!("FAILURE"))
        );
    }
}

#[test]
fn nobody_asked_for_results() {
    let to_client = request(json!({"reply_to": "client"}), json!([]));
    for (request, results) in [
        (&to_client, ResultMode::Disabled),
        (&request(json!({}), json!([])), ResultMode::Reply),
    ] {
        let policy = Policy {
            results,
            ..policy()
        };
        let plan = plan(
            request,
            ran(Outcome::Success(json!(1))),
            &source(),
            &policy,
            now(),
        );
        assert_eq!((plan.results, plan.publications), (vec![], vec![]));
        assert_eq!(plan.settle, Settle::Ack);
    }
}

/// Celery's own results of like tasks, field by field, but for what differs by nature.
#[test]
fn extended_results_have_celerys_fields() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/results.json")).unwrap();
    let policy = Policy {
        result_extended: true,
        ..policy()
    };
    let next = json!([{"task": "next", "args": [3, 4], "options": {"task_id": "2"}}]);
    let callback = request(json!({"link": {"task": "ok"}}), json!([]));
    let chained = request(json!({}), next);
    let rejection = Outcome::Reject {
        requeue: false,
        reason: "rejected".into(),
    };
    let plan = |request, outcome| plan(request, ran(outcome), &source(), &policy, now()).results;
    for (name, meta) in [
        ("success", &plan(&callback, Outcome::Success(json!(8)))[0]),
        ("failed_step", &plan(&chained, failed())[1]),
        ("rejected", &plan(&callback, rejection)[0]),
        (
            "expired",
            &refuse(&callback, &Refusal::Expired, &source(), &policy, now()).results[0],
        ),
    ] {
        let recorded = recorded[name].as_object().unwrap();
        let mut ours = meta.to_json().as_object().unwrap().clone();
        ours.shift_remove("parent_id");
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            recorded.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for field in ["status", "retries"] {
            assert_eq!(ours[field], recorded[field], "{name}.{field}");
        }
        for field in ["worker", "queue", "traceback"] {
            assert_eq!(
                ours[field].is_null(),
                recorded[field].is_null(),
                "{name}.{field}"
            );
        }
        if name == "rejected" || name == "expired" {
            assert_eq!(ours["result"], recorded["result"], "{name}.result");
        }
    }
}

#[test]
fn stamps_stand_beside_the_fields_and_overwrite_none() {
    let options = json!({"stamped_headers": ["run", "status"], "run": 7, "status": "HACKED"});
    let policy = Policy {
        result_extended: true,
        ..policy()
    };
    let plan = plan(
        &request(options, json!([])),
        ran(Outcome::Success(json!(1))),
        &source(),
        &policy,
        now(),
    );
    let meta = plan.results[0].to_json();
    assert_eq!(
        (&meta["run"], &meta["status"]),
        (&json!(7), &json!("SUCCESS"))
    );
    assert_eq!(meta["stamped_headers"], json!(["run", "status"]));
}
