use super::*;

fn refusals() -> Vec<(Refusal, &'static str, &'static str, &'static str)> {
    let text = String::from;
    vec![
        (
            Refusal::UnknownTask { task: text("t") },
            "celery.exceptions",
            "NotRegistered",
            "t",
        ),
        (
            Refusal::ModuleRefused {
                task: text("t"),
                module: text("m"),
                reason: text("why"),
            },
            "celery.exceptions",
            "NotRegistered",
            "task \"t\": this worker does not take its module m: why",
        ),
        (
            Refusal::Arguments {
                reason: text("bad n"),
            },
            "builtins",
            "TypeError",
            "bad n",
        ),
        (
            Refusal::ArgumentsTooLarge { size: 3, limit: 2 },
            "petiole.exceptions",
            "ArgumentsTooLarge",
            "argument limit of 2 bytes exceeded: the task was given 3 bytes or more",
        ),
        (
            Refusal::Malformed { reason: text("x") },
            "kombu.exceptions",
            "DecodeError",
            "malformed message: x",
        ),
        (
            Refusal::Unsupported {
                what: text("a chord"),
            },
            "builtins",
            "NotImplementedError",
            "a chord is not supported yet",
        ),
        (
            Refusal::ContentDisallowed {
                content_type: text("application/x-yaml"),
            },
            "kombu.exceptions",
            "ContentDisallowed",
            "refusing to decode application/x-yaml: send tasks as application/json (task_serializer = 'json')",
        ),
    ]
}

#[test]
fn a_refused_task_fails_and_is_kept() {
    let chain = json!([{"task": "next", "options": {"task_id": "2"}}]);
    let mut request = request(
        json!({"link_error": [{"task": "py.oops"}], "link": {"task": "ok"}}),
        chain,
    );
    request.message.properties.expiration = Some("1".into());
    for (refusal, module, class, message) in refusals() {
        let plan = refuse(&request, &refusal, &source(), &policy(), now());
        let expected = json!({"exc_type": class, "exc_message": [message], "exc_module": module});
        assert_eq!(plan.results[0].result, expected);
        assert_eq!(statuses(&plan), [(ID, "FAILURE"), ("2", "FAILURE")]);
        let [errback, kept] = plan.publications.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(errback.destination, Destination::queue("python"));
        assert_kept(kept, &request.message, &refusal);
        assert_eq!(plan.settle, Settle::Ack);
        assert_eq!(class_of(&plan), class);
    }
}

/// Of the exception that a plan ends its task with.
fn class_of(plan: &Plan) -> &str {
    match &plan.ended {
        Ended::Failure { exception, .. } => &exception.exc_type,
        other => panic!("{other:?}"),
    }
}

fn assert_kept(kept: &Publication, original: &Message, refusal: &Refusal) {
    assert_eq!(kept.destination, Destination::queue("kept"));
    assert!(kept.mandatory && kept.message.properties.persistent);
    assert_eq!(kept.message.properties.expiration, None);
    assert_eq!(kept.message.body, original.body);
    let mut headers = original.headers.clone();
    headers.insert("x-petiole-reason".into(), refusal.to_string().into());
    headers.insert("x-petiole-queue".into(), "wasm".into());
    if let Some(expiration) = &original.properties.expiration {
        headers.insert("x-petiole-expiration".into(), expiration.as_str().into());
    }
    if let Some(reply_to) = &original.properties.reply_to {
        headers.insert("x-petiole-reply-to".into(), reply_to.as_str().into());
    }
    assert_eq!(kept.message.headers, headers);
}

#[test]
fn an_expired_task_is_revoked_and_nothing_follows() {
    let chain = json!([{"task": "next", "options": {"task_id": "2"}}]);
    let request = request(json!({"link_error": {"task": "oops"}}), chain);
    let plan = refuse(&request, &Refusal::Expired, &source(), &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "REVOKED")]);
    let expected = json!({"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"});
    assert_eq!(plan.results[0].result, expected);
    assert_eq!(plan.results[0].date_done, Some(now()));
    assert_eq!((plan.publications.len(), plan.settle), (0, Settle::Ack));
    assert_eq!(plan.ended, Ended::Revoked);
}

#[test]
fn what_can_not_be_read_fails_as_far_as_it_can_be_told() {
    let mut message = request(json!({"reply_to": "client"}), json!([])).message;
    message.body = b"not json".as_slice().into();
    let undecodable = Request::decode(message.clone(), |_| usize::MAX).unwrap_err();
    let plan = quarantine(&undecodable, &source(), &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
    assert_eq!(plan.results[0].result["exc_type"], "DecodeError");
    let [kept] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_kept(kept, &message, &undecodable.refusal);
    assert_eq!((plan.settle, class_of(&plan)), (Settle::Ack, "DecodeError"));

    let policy = Policy {
        results: ResultMode::Reply,
        ..policy()
    };
    let plan = quarantine(&undecodable, &source(), &policy, now());
    assert_eq!((plan.results.len(), plan.publications.len()), (0, 2));
    assert_eq!(
        plan.publications[1].destination,
        Destination::queue("client")
    );

    let unknown = Undecodable {
        id: None,
        ..*undecodable
    };
    let plan = quarantine(&unknown, &source(), &policy, now());
    assert_eq!(
        (plan.results.len(), plan.publications.len(), plan.settle),
        (0, 1, Settle::Ack)
    );
}

#[test]
fn whoever_waits_for_a_message_that_was_not_sent_hears_of_it() {
    let errback = json!({"task": "py.failed", "options": {"task_id": "errback"}});
    let rest = json!([{"task": "a.last", "options": {"task_id": "last"}}]);
    let request = request(json!({"link_error": [errback]}), rest);
    let publication = Publication {
        destination: Destination {
            exchange: "gone".into(),
            routing_key: "key".into(),
        },
        message: request.message.clone(),
        mandatory: true,
        not_before: None,
    };
    let plan = not_sent(&publication, "404 no exchange".into(), &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE"), ("last", "FAILURE")]);
    assert_eq!(class_of(&plan), "NotCarriedOut");
    let [errback, kept] = &plan.publications[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(errback.message.headers["task"], "py.failed");
    assert_eq!(kept, &publication.kept("kept", "404 no exchange"));
}

#[test]
fn what_is_no_task_is_kept_where_it_can_not_be_sent() {
    let request = request(json!({}), json!([]));
    let publication = Publication {
        destination: Destination::queue("dead"),
        message: Message {
            body: b"{".as_slice().into(),
            ..request.message
        },
        mandatory: true,
        not_before: None,
    };
    let plan = not_sent(&publication, "404".into(), &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE")], "whoever waits hears");
    assert_eq!(plan.publications, [publication.kept("kept", "404")]);
}

#[test]
fn what_takes_too_much_memory_to_be_read_is_told_by_its_headers() {
    let request = request(json!({"link_error": [{"task": "py.failed"}]}), json!([]));
    let publication = Publication {
        destination: Destination::queue("dead"),
        message: request.message,
        mandatory: true,
        not_before: None,
    };
    let small = Policy {
        sent_limit: 1_000,
        ..policy()
    };
    let plan = not_sent(&publication, "404".into(), &small, now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
    assert_eq!(plan.publications, [publication.kept("kept", "404")]);
    let plan = not_sent(&publication, "404".into(), &policy(), now());
    assert_eq!(plan.publications.len(), 2, "with its errback");
}

#[test]
fn what_follows_is_checked_before_the_run() {
    let chord = json!({"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [], "body": null}});
    let group = json!({"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}});
    let chain = |tasks: Value| json!({"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": tasks}});
    let chorded = json!([{"task": "last", "options": {"chord": {"task": "sum"}}}]);
    let bad = json!({"task": "ok", "options": {"priority": "high"}});
    for (options, rest, what) in [
        (
            json!({"link": chord}),
            json!([]),
            "a chord is not supported yet",
        ),
        (
            json!({"link_error": [{"task": "a"}, chord]}),
            json!([]),
            "a chord is not supported yet",
        ),
        (
            json!({"chord": {"task": "sum"}}),
            json!([]),
            "a task in the header of a chord is not supported yet",
        ),
        (json!({}), json!([chord]), "a chord is not supported yet"),
        (
            json!({}),
            chorded,
            "a chain in the header of a chord is not supported yet",
        ),
        (
            json!({"link": chain(json!([{"task": "a"}, group, {"task": "b"}]))}),
            json!([]),
            "which is a chord, is not",
        ),
        (
            json!({"link": chain(json!([group, {"task": "b"}]))}),
            json!([]),
            "which is a chord, is not",
        ),
        (
            json!({}),
            json!([{"task": "b"}, group]),
            "which is a chord, is not",
        ),
        (
            json!({"link": bad}),
            json!([]),
            "option `priority` of \"ok\" is a string",
        ),
        (
            json!({}),
            json!([bad]),
            "option `priority` of \"ok\" is a string",
        ),
        (
            json!({"link": {"task": "x", "subtask_type": "tree"}}),
            json!([]),
            "`subtask_type` of \"x\" is \"tree\"",
        ),
        (
            json!({"link": {"task": "celery.group", "subtask_type": "group"}}),
            json!([]),
            "has no array `tasks`",
        ),
    ] {
        let request = request(options, rest);
        let refusal = request.unsupported(256 << 20).expect(what).to_string();
        assert!(refusal.contains(what), "{refusal}");
        // Should it run all the same, then nothing is lost: it is a failure, and kept.
        let plan = plan_of(&request, Outcome::Success(json!(1)));
        if request.embed.chord.is_none()
            && !what.contains("header")
            && request.embed.errbacks.is_empty()
        {
            assert_eq!(plan.results[0].status, State::Failure, "{what}");
            assert_eq!(
                class_of(&plan),
                request.unsupported(256 << 20).unwrap().exception().exc_type
            );
            let kept = plan.publications.last().unwrap();
            assert_eq!(kept.destination, Destination::queue("kept"));
            assert_eq!(kept.message.headers["x-petiole-reason"], refusal);
        }
    }
    for link in [
        json!({"task": "ok"}),
        group.clone(),
        chain(json!([{"task": "a"}, group])),
        chain(json!([])),
    ] {
        assert_eq!(
            request(json!({"link": link}), json!([])).unsupported(256 << 20),
            None
        );
    }
}

#[test]
fn workflows_have_limits() {
    let big = "x".repeat(1 << 20);
    let dense: Map<String, Value> = (0..500).map(|name| (name.to_string(), json!(0))).collect();
    let group = |size: usize, options: Value| {
        let tasks = vec![json!({"task": "t"}); size];
        json!({"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": tasks}, "options": options})
    };
    let chain = json!({"task": "celery.chain", "subtask_type": "chain",
        "kwargs": {"tasks": vec![json!({"task": "t"}); 70]}, "options": {"link_error": {"task": big}}});
    for (link, reason) in [
        (group(10_001, json!({})), "a group of more than 10000 tasks"),
        (
            group(70, json!({"headers": {"x": big}})),
            "take more than 67108864 bytes",
        ),
        (chain, "take more than 67108864 bytes"),
        (
            group(10_000, json!({"headers": dense})),
            "take more than the 268435456 bytes",
        ),
    ] {
        let refusal = request(json!({"link": link}), json!([]))
            .unsupported(256 << 20)
            .unwrap()
            .to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }

    let many = request(
        json!({"link": vec![json!({"task": "t"}); 10_001]}),
        json!([]),
    );
    assert!(
        many.unsupported(256 << 20)
            .unwrap()
            .to_string()
            .contains("more than 10000 callbacks")
    );

    let steps = |size: usize| request(json!({}), vec![json!({"task": "t"}); size].into());
    assert_eq!(steps(100_000).unsupported(256 << 20), None);
    let refusal = steps(100_001).unsupported(256 << 20).unwrap().to_string();
    assert!(refusal.contains("more than 100000 tasks"), "{refusal}");

    // A result of 10 MB to thirty tasks.
    let plan = plan_of(
        &request(json!({"link": group(30, json!({}))}), json!([])),
        Outcome::Success("x".repeat(10_000_000).into()),
    );
    let reason = "the messages that follow it take more than the 268435456 bytes of memory";
    assert!(
        plan.results[0].result["exc_message"][0]
            .as_str()
            .unwrap()
            .contains(reason)
    );
    assert_eq!(plan.publications.len(), 1, "only the one that is kept");
}

#[test]
fn an_errback_that_can_not_be_sent_does_not_keep_others_back() {
    let errbacks = json!([{"task": "bad", "options": {"queue": 1}}, {"task": "good"}]);
    let request = request(json!({"link_error": errbacks}), json!([]));
    let plan = plan_of(&request, failed());
    assert_eq!(
        plan.results[0].result["exc_type"], "Boom",
        "the task's own failure stands"
    );
    let [good, kept] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(good.message.headers["task"], "good");
    assert_eq!(kept.destination, Destination::queue("kept"));
}
