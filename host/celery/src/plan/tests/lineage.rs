use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Signatures that a guest may send: tasks and workflows, with callbacks, and headers that claim a lineage.
fn any_signature() -> impl Strategy<Value = Value> {
    let task = any::<bool>().prop_map(|forged| {
        let headers = json!({"x-petiole-descendants": 1_000_000, "x-petiole-depth": 1_000});
        let options = if forged {
            json!({"headers": headers})
        } else {
            json!({})
        };
        json!({"task": "wasm.run", "options": options})
    });
    task.prop_recursive(3, 12, 3, |inner| {
        let some = |count| prop::collection::vec(inner.clone(), count);
        let workflow = |kind: &'static str, tasks: Vec<Value>, options: Value| {
            json!({"task": format!("celery.{kind}"), "subtask_type": kind, "kwargs": {"tasks": tasks}, "options": options})
        };
        let linked = (some(0..2), some(0..2))
            .prop_map(|(link, link_error)| json!({"link": link, "link_error": link_error}));
        prop_oneof![
            linked.clone().prop_map(|options| json!({"task": "wasm.run", "options": options})),
            (some(1..4), linked.clone()).prop_map(move |(tasks, options)| workflow("chain", tasks, options)),
            (some(1..4), linked).prop_map(move |(tasks, options)| workflow("group", tasks, options)),
        ]
    })
}

/// A worker without any memory of what it has run: how many tasks came of a root, each of which sends what it
/// may of `menu` and then succeeds or fails, and how many levels of them.
fn run_all(menu: &[Value], outcomes: &[bool], root: Lineage) -> (usize, u32) {
    let mut menu = menu.iter().cycle();
    let mut outcomes = outcomes.iter().cycle();
    let mut waiting = VecDeque::from([request(json!({}), json!([]))]);
    let (mut descendants, mut deepest) = (0, 0);
    while let Some(request) = waiting.pop_front() {
        let lineage = request.lineage.unwrap_or(root);
        let mut sent = Vec::new();
        for _ in 0..2 {
            let wanted = signature(menu.next().unwrap().clone());
            let tasks: usize = sent.iter().map(Signature::tasks).sum();
            // The runtime checks this when a guest sends.
            if lineage.depth > 0 && tasks + wanted.tasks() <= lineage.descendants {
                sent.push(wanted);
            }
        }
        let outcome = match outcomes.next().unwrap() {
            true => Outcome::Success(Value::Null),
            false => failed(),
        };
        let ran = Ran {
            sent,
            lineage,
            ..ran(outcome)
        };
        let plan = plan(&request, ran, &source(), &policy(), now());
        for publication in &plan.publications {
            // Of workflows that no worker carries out, the message itself is kept.
            if publication.destination == Destination::queue("kept") {
                continue;
            }
            let child = Request::decode(publication.message.clone(), |_| usize::MAX).unwrap();
            let left = child
                .lineage
                .expect("a lineage on all that a guest has sent");
            assert!(left.descendants < root.descendants && left.depth < root.depth);
            let level = root.depth - left.depth;
            (descendants, deepest) = (descendants + 1, deepest.max(level));
            assert!(
                descendants <= root.descendants,
                "{descendants} tasks already"
            );
            waiting.push_back(child);
        }
    }
    (descendants, deepest)
}

/// Values a guest may put where a signature is expected: often, one field or option is not as it should be.
fn any_shape() -> impl Strategy<Value = Value> {
    let task = json!({"task": "wasm.run"});
    let builtin = json!({"task": "celery.chunks", "kwargs": {"task": task, "it": [[1]], "n": 1}});
    let leaf = prop_oneof![
        20 => Just(task),
        1 => Just(json!("wasm.run")),
        1 => Just(builtin),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from);
        let values = prop_oneof![1 => inner, 3 => some];
        let headers = json!({"id": "victim", "x-petiole-descendants": 1_000_000, "tenant": "acme"});
        let name = prop_oneof![10 => Just("link"), 5 => Just("link_error"), 5 => Just("chain"), 1 => Just("chord")];
        let others = prop_oneof![
            10 => Just(json!({})),
            10 => Just(json!({"headers": headers, "task_id": "victim"})),
            1 => Just(json!({"headers": headers, "stamped_headers": ["headers"]})),
        ];
        let options = (name, values.clone(), others).prop_map(|(name, values, mut options)| {
            options[name] = values;
            options
        });
        let options = prop_oneof![
            20 => options.clone(),
            1 => options.clone().prop_map(|options| json!({"options": options})),
            1 => options.prop_map(|options| dict(Some(&options)).iter().map(|(name, value)| json!([name, value])).collect::<Value>()),
        ];
        let kind = prop_oneof![10 => Just(""), 8 => Just("chain"), 8 => Just("group"), 1 => Just("chord"), 1 => Just("chunks")];
        (kind, values, options, 0..20_u8).prop_map(|(kind, tasks, options, whole)| {
            let kwargs = json!({"tasks": tasks, "header": tasks, "body": null, "task": tasks, "it": [1], "n": 1});
            let mut shape = json!({"task": "wasm.run", "kwargs": kwargs, "options": options, "subtask_type": kind});
            match whole {
                0 => drop(shape.as_object_mut().unwrap().remove("task")),
                1 => shape["link"] = json!({"task": "wasm.run"}),
                _ => {}
            }
            shape
        })
    })
}

/// The options of all tasks that Celery's library sends for what stands where it expects a signature: a model of
/// `Signature.from_dict`, `apply_async` and `run` in its `canvas.py`, which take nearly anything.
fn sent_by_python(value: &Value, above: &Map<String, Value>, sent: &mut Vec<Map<String, Value>>) {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::String(_) => return sent.push(Map::new()),
        _ => return,
    };
    let kind = fields.get("subtask_type").and_then(Value::as_str);
    let kind = kind.unwrap_or_default();
    let mut options = dict(fields.get("options"));
    if !kind.is_empty() {
        // keyword arguments of a constructor
        let more = options.remove("options");
        options.extend(dict(more.as_ref()));
    }
    if kind == "chord" {
        options.extend(fields.clone());
    }
    options.extend(above.clone());
    for stamp in elements(options.remove("stamped_headers").as_ref()) {
        options.remove(stamp.as_str().unwrap_or_default());
    }
    let kwargs = dict(fields.get("kwargs"));
    let parts = |name| elements(kwargs.get(name));
    match kind {
        "" if fields.get("task").is_some_and(is_builtin) => return sent.push(Map::new()),
        "" => sent.push(options.clone()),
        "group" => {
            for task in parts("tasks") {
                sent_by_python(&task, &options, sent);
            }
            return;
        }
        "chain" => {
            let of_first = options.iter().filter(|(name, _)| *name == "headers");
            let mut above: Map<_, _> = of_first
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            for task in parts("tasks") {
                sent_by_python(&task, &std::mem::take(&mut above), sent);
            }
        }
        _ => {
            for task in [parts("header"), parts("body"), parts("task")].concat() {
                sent_by_python(&task, &Map::new(), sent);
            }
        }
    }
    for name in ["link", "link_error", "chain", "chord"] {
        for task in elements(options.get(name)) {
            sent_by_python(&task, &Map::new(), sent);
        }
    }
}

/// Python's `dict(value)`.
fn dict(value: Option<&Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(fields)) => fields.clone(),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
            .collect(),
        _ => Map::new(),
    }
}

fn elements(value: Option<&Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
    }
}

fn is_builtin(task: &Value) -> bool {
    task.as_str()
        .is_some_and(|task| task.starts_with("celery."))
}

proptest! {
    #[test]
    fn no_tree_of_tasks_outgrows_its_root(
        menu in prop::collection::vec(any_signature(), 1..6),
        outcomes in prop::collection::vec(any::<bool>(), 1..8),
        descendants in 1..300_usize,
        depth in 1..6_u32,
    ) {
        let (came, deepest) = run_all(&menu, &outcomes, Lineage { descendants, depth });
        prop_assert!(came <= descendants);
        prop_assert!(deepest <= depth);
    }

    #[test]
    fn python_sends_nothing_without_the_lineage_of_who_wrote_it(
        shapes in prop::collection::vec(any_shape(), 1..3),
        name in prop::sample::select(vec!["link", "link_error", "chain"]),
    ) {
        let root = Lineage { descendants: 1_000, depth: 7 };
        let written = signature(json!({"task": "py.run", "options": {name: shapes}}));
        let tasks = written.tasks();
        // Anything else is refused.
        if let Ok(stamped) = root.stamp(vec![written]) {
            let mut sent = Vec::new();
            for signature in elements(stamped[0].options.get(name)) {
                sent_by_python(&signature, &Map::new(), &mut sent);
            }
            prop_assert!(!sent.is_empty() && sent.len() < tasks);
            let left = (1_000 - tasks) / tasks;
            for options in sent {
                let headers = dict(options.get("headers"));
                prop_assert_eq!(&headers["x-petiole-descendants"], &json!(left));
                prop_assert_eq!(&headers["x-petiole-depth"], &json!(6));
                prop_assert!(!headers.contains_key("id") && !options.contains_key("task_id"));
            }
        }
    }

    #[test]
    fn no_more_comes_of_a_signature_than_it_counts(
        sent in any_signature(),
        outcomes in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let descendants = signature(sent.clone()).tasks();
        let (came, _) = run_all(&[sent], &outcomes, Lineage { descendants, depth: 1 });
        prop_assert!(came <= descendants);
    }
}

#[test]
fn a_task_that_sends_what_it_may_not_fails_and_sends_nothing() {
    let hidden = json!({"subtask_type": "group", "kwargs": {"tasks": [{"task": "wasm.run"}]}});
    let ran = Ran {
        sent: signatures(json!([
            {"task": "wasm.run"},
            {"task": "py.run", "options": {"link": hidden}},
        ])),
        ..ran(Outcome::Success(json!(1)))
    };
    let request = request(json!({"link_error": {"task": "oops"}}), json!([]));
    let plan = plan(&request, ran, &source(), &policy(), now());
    assert_eq!(statuses(&plan), [(ID, "FAILURE")]);
    let reason = "malformed message: invalid signature: it has no `task`";
    assert_eq!(plan.results[0].result["exc_message"], json!([reason]));
    assert!(matches!(plan.ended, Ended::Failure { .. }));
    let [errback, kept] = plan.publications.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(errback.message.headers["task"], "oops");
    assert_eq!(kept.destination, Destination::queue("kept"));
}

#[test]
fn a_fork_bomb_ends_at_the_root_s_number() {
    let two = [json!({"task": "wasm.run"})];
    let (came, deepest) = run_all(
        &two,
        &[true],
        Lineage {
            descendants: 10_000,
            depth: 100,
        },
    );
    assert_eq!(
        (came, deepest),
        (8190, 12),
        "2 + 4 + ... + 4096; 8192 more would be too many"
    );
    let (came, deepest) = run_all(
        &two,
        &[true],
        Lineage {
            descendants: 10_000,
            depth: 3,
        },
    );
    assert_eq!((came, deepest), (14, 3));
}

#[test]
fn a_producer_s_own_callbacks_do_not_count() {
    let options = json!({"link": {"task": "wasm.next"}});
    let chain = json!([{"task": "wasm.last"}]);
    let plan = plan_of(&request(options, chain), Outcome::Success(json!(1)));
    assert!(tasks(&plan).iter().all(|task| task.lineage.is_none()));
    assert_eq!(plan.publications.len(), 2);
}

#[test]
fn a_retry_has_what_its_task_had() {
    let options = json!({"headers": {"x-petiole-descendants": 7, "x-petiole-depth": 2}});
    let plan = plan_of(&request(options, json!([])), retry(RetryAt::Default, None));
    let [again] = tasks(&plan).try_into().unwrap();
    assert_eq!(
        again.lineage,
        Some(Lineage {
            descendants: 7,
            depth: 2
        })
    );
    assert_eq!(again.own_headers(), Map::new(), "guests do not see it");
}

#[test]
fn a_lineage_that_no_worker_wrote_is_refused() {
    let decoded = |headers: Value| {
        let mut message = request(json!({}), json!([])).message;
        message.headers.extend(headers.as_object().unwrap().clone());
        Request::decode(message, |_| usize::MAX)
    };
    for (headers, reason) in [
        (
            json!({"x-petiole-descendants": "7", "x-petiole-depth": 1}),
            "`x-petiole-descendants` is a string",
        ),
        (
            json!({"x-petiole-descendants": -7, "x-petiole-depth": 1}),
            "`x-petiole-descendants` is -7",
        ),
        (
            json!({"x-petiole-descendants": 7, "x-petiole-depth": [1]}),
            "`x-petiole-depth` is an array",
        ),
        (
            json!({"x-petiole-descendants": 7}),
            "without `x-petiole-depth`",
        ),
        (
            json!({"x-petiole-depth": 7}),
            "without `x-petiole-descendants`",
        ),
    ] {
        let refusal = decoded(headers).unwrap_err().refusal.to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
}
