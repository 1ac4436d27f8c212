use super::*;

#[test]
fn the_same_message_is_sent_again_later() {
    let options = json!({"link": {"task": "ok"}, "priority": 4, "reply_to": "client", "headers": {"x-a": "b"}});
    let mut request = request(options, json!([{"task": "next"}]));
    request.message.properties = Properties {
        expiration: Some("60000".into()),
        message_id: Some("m".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("k".into()),
        app_id: Some("a".into()),
        cluster_id: Some("c".into()),
        ..request.message.properties
    };
    let typed = json!({"__type__": "amqp.timestamp", "__value__": 1_700_000_000});
    request.message.headers.insert("at".into(), typed.clone());
    for header in ["x-death", "x-first-death-queue", "x-delivery-count", "CC"] {
        request.message.headers.insert(header.into(), json!([]));
    }
    let original = request.message.clone();
    for (at, eta) in [
        (RetryAt::Default, Some("2026-11-22T12:03:00Z")),
        (
            RetryAt::Countdown(Duration::from_millis(1500)),
            Some("2026-11-22T12:00:01.5Z"),
        ),
        (
            RetryAt::Eta("2027-01-01T00:00:00Z".parse().unwrap()),
            Some("2027-01-01T00:00:00Z"),
        ),
        (RetryAt::Countdown(Duration::ZERO), None),
        (RetryAt::Eta(Timestamp::UNIX_EPOCH), None),
    ] {
        let eta: Option<Timestamp> = eta.map(|eta| eta.parse().unwrap());
        let plan = plan_of(&request, retry(at, None));
        let [sent] = plan.publications.as_slice() else {
            panic!("{plan:?}")
        };
        let to = Destination::queue(&source().queue);
        assert_eq!(
            (&sent.destination, sent.not_before, sent.mandatory),
            (&to, eta, true)
        );
        assert_eq!(sent.message.body, original.body);
        // The broker must not drop it while it waits.
        let kept = Properties {
            expiration: None,
            ..original.properties.clone()
        };
        assert_eq!(sent.message.properties, kept);
        assert_eq!(sent.message.headers["at"], typed);
        let again = Request::decode(sent.message.clone(), |_| usize::MAX).unwrap();
        assert_eq!((again.id.as_str(), again.retries, again.eta), (ID, 1, eta));
        assert_eq!(again.parent_id.as_deref(), Some("parent"));
        assert_eq!(
            again.message.headers.len() + 4,
            original.headers.len(),
            "only the broker's are gone"
        );
        assert_eq!(
            again.own_headers(),
            *json!({"x-a": "b", "at": 1_700_000_000})
                .as_object()
                .unwrap()
        );
        assert_eq!(statuses(&plan), [(ID, "RETRY")]);
        assert_eq!(plan.results[0].result["exc_type"], "Boom");
        assert_eq!(plan.results[0].date_done, None);
        assert_eq!(plan.settle, Settle::Ack);
    }
}

#[test]
fn no_more_than_allowed() {
    for (done, max_retries, again) in [
        (2, None, true),
        (3, None, false),
        (u32::MAX, None, false),
        (0, Some(0), false),
        (5, Some(6), true),
        (6, Some(6), false),
        (8, Some(u32::MAX), true),
        (9, Some(u32::MAX), false),
    ] {
        let request = request(
            json!({"retries": done, "link_error": {"task": "oops"}}),
            json!([]),
        );
        let plan = plan_of(&request, retry(RetryAt::Default, max_retries));
        if again {
            assert_eq!(statuses(&plan), [(ID, "RETRY")]);
            assert_eq!(plan.ended, Ended::Retry { exception: boom() });
            assert_eq!(tasks(&plan)[0].retries, done + 1);
        } else {
            assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
            let (exception, traceback) = (boom(), None);
            assert_eq!(
                plan.ended,
                Ended::Failure {
                    exception,
                    traceback
                }
            );
            assert_eq!(plan.results[0].result, boom().to_json());
            assert_eq!(names(&tasks(&plan)), ["oops"]);
        }
    }
}

#[test]
fn each_run_has_children_of_its_own() {
    let ids = |retries: u32| {
        let request = request(
            json!({"retries": retries, "link": {"task": "ok"}}),
            json!([]),
        );
        tasks(&plan_of(&request, Outcome::Success(json!(1))))[0]
            .id
            .clone()
    };
    assert_eq!(ids(0), ids(0));
    assert_ne!(ids(0), ids(1));
}

/// They have the ids of the run before it was taken out of quarantine, and are to run as well.
#[test]
fn what_a_run_out_of_quarantine_sends_is_another_run_too() {
    let options = json!({"link": {"task": "ok"}, "link_error": {"task": "oops"}});
    let mut request = request(options, json!([{"task": "next"}]));
    request
        .message
        .headers
        .insert("x-petiole-sent-again".into(), 2.into());
    let failure = Outcome::Failure {
        exception: boom(),
        traceback: None,
    };
    for (outcome, sent) in [(Outcome::Success(json!(1)), 2), (failure, 1)] {
        let plan = plan_of(&request, outcome);
        assert_eq!(plan.publications.len(), sent);
        for publication in &plan.publications {
            assert_eq!(publication.message.headers["x-petiole-sent-again"], 2);
        }
    }
}

#[test]
fn a_task_that_is_not_due_goes_back_to_its_queue() {
    let mut request = request(json!({"eta": "2026-11-23T00:00:00Z"}), json!([]));
    request.message.properties.expiration = Some("1".into());
    let until = request.eta.unwrap();
    let plan = postpone(&request, until, &source(), now()).unwrap();
    let [sent] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (&sent.destination, sent.not_before),
        (&Destination::queue("wasm"), Some(until))
    );
    assert_eq!(sent.message.headers, request.message.headers);
    assert_eq!(sent.message.body, request.message.body);
    assert_eq!((plan.results.len(), plan.settle), (0, Settle::Ack));
    assert_eq!(plan.ended, Ended::Postponed);
}

/// Decodes again a message that comes back out of the broker.
fn again(plan: &Plan) -> Request {
    let [back] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(back.destination, Destination::queue("wasm"));
    Request::decode(back.message.clone(), |_| usize::MAX).unwrap()
}

#[test]
fn a_run_waits_for_memory_so_often_and_longer_each_time() {
    let first = request(json!({}), json!([]));
    let (mut request, mut waited) = (first.clone(), Vec::new());
    let refusal = loop {
        let (plan, until) = match await_memory(&request, &source(), now()) {
            Ok(put_off) => put_off,
            Err(refusal) => break refusal,
        };
        assert_eq!(plan.publications[0].not_before, Some(until));
        assert_eq!((plan.results.len(), plan.settle), (0, Settle::Ack));
        assert_eq!(plan.ended, Ended::Postponed);
        waited.push(until.duration_since(now()).as_secs());
        request = again(&plan);
        assert_eq!((&request.id, &request.args), (&first.id, &first.args));
        assert!(waited.len() <= 100);
    };
    assert_eq!(waited[..8], [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(
        (waited.len(), &refusal),
        (20, &Refusal::NoMemoryLeft { count: 20 })
    );

    let other = plan_of(&request, retry(RetryAt::Default, None));
    assert_eq!(again(&other).memory_waits, 0, "another run");
    let requeue = Outcome::Reject {
        requeue: true,
        reason: "later".into(),
    };
    assert_eq!(again(&plan_of(&request, requeue)).memory_waits, 0);
    let kept = refuse(&request, &refusal, &source(), &policy(), now());
    let kept = kept
        .publications
        .into_iter()
        .find(|one| one.message.is_kept());
    let sent_again = Kept::open(kept.unwrap().message).unwrap().send_again();
    let sent_again = sent_again.unwrap().message;
    assert!(!sent_again.headers.contains_key("x-petiole-memory-waits"));
    assert_eq!(sent_again.headers["x-petiole-sent-again"], 1);
}
