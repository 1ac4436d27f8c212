use super::*;

#[test]
fn a_callback_takes_the_result_first() {
    let request = request(
        json!({"link": {"task": "py.ok", "args": ["own"], "kwargs": {"a": 1}}}),
        json!([]),
    );
    let plan = plan_of(&request, Outcome::Success(json!({"n": 3})));

    let [sent] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(sent.destination, Destination::queue("python"));
    assert!(sent.mandatory);
    let callback = Request::decode(sent.message.clone(), |_| usize::MAX).unwrap();
    let id = child_id(ID, 0, ChildKind::Callback, 0);
    assert_eq!(callback.id, id);
    assert_eq!(callback.args, [json!({"n": 3}), json!("own")]);
    assert_eq!(callback.kwargs, *json!({"a": 1}).as_object().unwrap());
    assert_eq!(
        (callback.root_id.as_str(), callback.parent_id.as_deref()),
        ("root", Some(ID))
    );
    assert_eq!(callback.group, None);

    let [meta] = plan.results.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        meta.to_json(),
        json!({
            "status": "SUCCESS", "result": {"n": 3}, "traceback": null, "children": [[[id, null], null]],
            "date_done": "2026-11-22T12:00:00.000000+00:00", "parent_id": "parent", "task_id": ID,
        })
    );
    assert_eq!(plan.settle, Settle::Ack);
}

#[test]
fn an_immutable_callback_does_not() {
    let link =
        json!({"task": "ok", "args": [7], "immutable": true, "options": {"task_id": "fixed"}});
    let sent = tasks(&plan_of(
        &request(json!({"link": link}), json!([])),
        Outcome::Success(json!(1)),
    ));
    assert_eq!(
        (sent[0].id.as_str(), sent[0].args.as_slice()),
        ("fixed", [json!(7)].as_slice())
    );
}

#[test]
fn several_callbacks_go_out_as_a_group() {
    let link = json!([{"task": "a"}, {"task": "b", "options": {"task_id": "b-id"}}]);
    let plan = plan_of(
        &request(json!({"link": link}), json!([])),
        Outcome::Success(json!(1)),
    );
    let sent = tasks(&plan);
    let (group, a) = (
        child_id(ID, 0, ChildKind::Group, 0),
        child_id(ID, 0, ChildKind::Callback, 0),
    );
    assert_eq!(names(&sent), ["a", "b"]);
    assert_eq!(
        (sent[0].id.as_str(), sent[1].id.as_str()),
        (a.as_str(), "b-id")
    );
    assert_eq!(
        sent.iter().map(|task| task.group_index).collect::<Vec<_>>(),
        [Some(0), Some(1)]
    );
    assert!(
        sent.iter()
            .all(|task| task.group.as_ref() == Some(&group) && task.args == [json!(1)])
    );
    let members = json!([[[a, null], null], [["b-id", null], null]]);
    assert_eq!(plan.results[0].children, [json!([[group, null], members])]);
}

#[test]
fn the_next_task_of_a_chain_takes_the_rest_along() {
    let chain = json!([
        {"task": "third", "args": [3], "options": {"task_id": "3"}},
        {"task": "second", "args": [2], "options": {"task_id": "2", "queue": "q"}},
    ]);
    let plan = plan_of(
        &request(json!({"link": {"task": "ok"}}), chain.clone()),
        Outcome::Success(json!(1)),
    );
    let sent = tasks(&plan);
    assert_eq!(names(&sent), ["ok", "second"]);
    assert_eq!(sent[1].id, "2");
    assert_eq!(sent[1].args, [json!(1), json!(2)]);
    assert_eq!(sent[1].embed.chain, [signature(chain[0].clone())]);
    assert_eq!(plan.publications[1].destination, Destination::queue("q"));
    let ok = child_id(ID, 0, ChildKind::Callback, 0);
    assert_eq!(
        plan.results[0].children,
        [json!([[ok, null], null]), json!([["2", null], null])]
    );
}

#[test]
fn a_chain_as_a_callback_sends_its_first_task() {
    let chain = json!({
        "task": "celery.chain", "subtask_type": "chain",
        "kwargs": {"tasks": [
            {"task": "one", "args": [1]},
            {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{"task": "two"}]}},
            {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [{"task": "three"}]}},
        ]},
        "options": {"link": [{"task": "after"}], "link_error": {"task": "oops"}, "queue": "first-only"},
    });
    let plan = plan_of(
        &request(json!({"link": chain}), json!([])),
        Outcome::Success(json!(0)),
    );
    let [one] = tasks(&plan).try_into().unwrap();
    let id = child_id(ID, 0, ChildKind::Callback, 0);
    assert_eq!(
        (one.task.as_str(), one.args.as_slice()),
        ("one", [json!(0), json!(1)].as_slice())
    );
    assert_eq!(one.id, child_id(&id, 0, ChildKind::Chain, 0));
    assert_eq!(
        plan.publications[0].destination,
        Destination::queue("first-only")
    );
    assert_eq!(names_of(&one.embed.errbacks), ["oops"]);
    let [three, two] = one.embed.chain.as_slice() else {
        panic!("{one:?}")
    };
    assert_eq!((two.task.as_str(), three.task.as_str()), ("two", "three"));
    assert_eq!(
        three.task_id(),
        Some(id.as_str()),
        "the last task stands for the chain"
    );
    assert_eq!(three.options["link"], json!([{"task": "after"}]));
    assert_eq!(two.options["link_error"], json!([{"task": "oops"}]));
}

#[test]
fn a_group_at_the_end_of_a_chain_has_its_ids_from_the_start() {
    let tasks_of = |tasks: Value| json!({"tasks": tasks});
    let group = json!({"task": "celery.group", "subtask_type": "group", "kwargs": tasks_of(json!([{"task": "a"}, {"task": "b"}]))});
    let chain = json!({"task": "celery.chain", "subtask_type": "chain", "kwargs": tasks_of(json!([{"task": "one"}, group]))});
    let [one] = tasks(&plan_of(
        &request(json!({"link": chain}), json!([])),
        Outcome::Success(json!(0)),
    ))
    .try_into()
    .unwrap();
    let id = child_id(ID, 0, ChildKind::Callback, 0);
    assert_eq!(one.embed.chain[0].task_id(), Some(id.as_str()));
    let members = one.embed.chain[0].kwargs["tasks"].as_array().unwrap();
    for (index, member) in members.iter().enumerate() {
        let member_id = child_id(&id, 0, ChildKind::Group, index);
        assert_eq!(
            member["options"],
            json!({"task_id": member_id, "group_index": index})
        );
    }
}

#[test]
fn a_group_as_a_callback_sends_each_of_its_tasks() {
    let inner = json!({"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [{"task": "b"}]}});
    let chain = json!({"task": "celery.chain", "subtask_type": "chain",
        "kwargs": {"tasks": [{"task": "c1"}, {"task": "c2"}]}});
    let group = json!({
        "task": "celery.group", "subtask_type": "group", "options": {"queue": "q"},
        "kwargs": {"tasks": [{"task": "a", "args": [1]}, inner, chain]},
    });
    let plan = plan_of(
        &request(json!({"link": group}), json!([])),
        Outcome::Success(json!(0)),
    );
    let sent = tasks(&plan);
    let id = child_id(ID, 0, ChildKind::Callback, 0);
    assert_eq!(names(&sent), ["a", "b", "c1"]);
    assert_eq!(sent[0].args, [json!(0), json!(1)]);
    assert_eq!(sent[1].group.as_ref(), Some(&id));
    assert_eq!(sent[1].group_index, Some(1));
    assert_eq!(
        sent[2].group, None,
        "of a chain, the last task is the group's"
    );
    assert_eq!(sent[2].embed.chain[0].options["group_id"], json!(id));
    assert!(
        plan.publications
            .iter()
            .all(|sent| sent.destination == Destination::queue("q"))
    );
    assert_eq!(plan.results[0].children[0][0], json!([id, null]));
    assert_eq!(plan.results[0].children[0][1].as_array().unwrap().len(), 3);
}

#[test]
fn what_the_guest_sent_is_published_now() {
    let sent = signatures(
        json!([{"task": "py.a", "args": [1]}, {"task": "b", "options": {"task_id": "b"}}]),
    );
    let plan = |outcome| {
        let ran = Ran {
            sent: sent.clone(),
            ..ran(outcome)
        };
        plan(
            &request(json!({}), json!([])),
            ran,
            &source(),
            &policy(),
            now(),
        )
    };
    let succeeded = plan(Outcome::Success(Value::Null));
    let first = child_id(ID, 0, ChildKind::Sent, 0);
    assert_eq!(
        tasks(&succeeded)
            .iter()
            .map(|task| task.id.as_str())
            .collect::<Vec<_>>(),
        [first.as_str(), "b"]
    );
    assert_eq!(tasks(&succeeded)[0].args, [json!(1)]);
    assert_eq!(succeeded.results[0].children.len(), 2);
    for outcome in [failed(), retry(RetryAt::Default, None), Outcome::Ignore] {
        let plan = plan(outcome);
        assert!(
            !plan
                .publications
                .iter()
                .any(|sent| sent.message.headers["task"] != "wasm.run"),
            "{plan:?}"
        );
    }
}

#[test]
fn a_chain_in_a_group_names_so_many_steps() {
    let steps: Vec<Value> = (0..30_000)
        .map(|step| json!({"task": "t", "options": {"task_id": step.to_string()}}))
        .collect();
    let chain =
        json!({"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": steps}});
    let request = request(json!({"link": [chain, {"task": "u"}]}), json!([]));
    assert_eq!(request.unsupported(256 << 20), None);
    let plan = plan_of(&request, Outcome::Success(json!(1)));
    assert_eq!(tasks(&plan)[0].embed.chain.len(), 29_999);
    let mut ids = Vec::new();
    let mut result = &plan.results[0].children[0][1][0];
    while let Some(id) = result[0][0].as_str() {
        ids.push(id);
        result = &result[0][1];
    }
    let named: Vec<String> = (29_600..30_000)
        .rev()
        .map(|step| step.to_string())
        .collect();
    assert_eq!(ids, named, "of the last one, with those before as parents");
}

fn names_of(signatures: &[Signature]) -> Vec<&str> {
    signatures
        .iter()
        .map(|signature| signature.task.as_str())
        .collect()
}
