use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Link {
    Task(usize),
    Chain(usize),
    Group(usize),
}

fn any_link() -> impl Strategy<Value = Link> {
    prop_oneof![
        (0..3usize).prop_map(Link::Task),
        (1..4usize).prop_map(Link::Chain),
        (1..4usize).prop_map(Link::Group)
    ]
}

/// Signatures whose tasks all have names of their own.
fn build(links: &[Link], prefix: &str) -> Vec<Value> {
    let build = |(index, link): (usize, &Link)| {
        let task = |step: usize| json!({"task": format!("{prefix}{index}.{step}")});
        let workflow = |kind: &str, size: usize| {
            let tasks: Vec<Value> = (0..size).map(task).collect();
            json!({"task": format!("celery.{kind}"), "subtask_type": kind, "kwargs": {"tasks": tasks}})
        };
        match *link {
            Link::Task(step) => task(step),
            Link::Chain(size) => workflow("chain", size),
            Link::Group(size) => workflow("group", size),
        }
    };
    links.iter().enumerate().map(build).collect()
}

/// Every task that a set of links leads to, in a message of its own or embedded in one.
fn expected(links: &[Link], prefix: &str) -> Vec<String> {
    let expand = |(index, link): (usize, &Link)| match *link {
        Link::Task(step) => vec![format!("{prefix}{index}.{step}")],
        Link::Chain(size) | Link::Group(size) => (0..size)
            .map(|step| format!("{prefix}{index}.{step}"))
            .collect(),
    };
    let mut names: Vec<String> = links.iter().enumerate().flat_map(expand).collect();
    names.sort();
    names
}

fn any_options() -> impl Strategy<Value = Value> {
    let option = prop_oneof![
        Just(json!({})),
        Just(json!({"task_id": "fixed"})),
        Just(json!({"headers": {"tenant": "acme"}})),
        Just(json!({"link": {"task": "linked"}})),
        Just(json!({"link_error": [{"task": "oops"}, {"task": "oops"}]})),
        Just(json!({"chain": [{"task": "last"}]})),
        Just(json!({"group_id": null, "group_index": 7})),
        Just(json!({"chord": {"task": "sum"}})),
        Just(json!({"priority": "high"})),
    ];
    (option, 0..8u8).prop_map(|(option, often)| if often == 0 { option } else { json!({}) })
}

/// Any canvas, some of which can't be carried out.
fn any_signature() -> impl Strategy<Value = Value> {
    let task = any_options().prop_map(|options| json!({"task": "t", "options": options}));
    task.prop_recursive(6, 40, 4, |inner| {
        let tasks = prop::collection::vec(inner, 0..4);
        let kind = prop_oneof![9 => Just("chain"), 9 => Just("group"), 1 => Just("chord")];
        let workflow = (kind, tasks, any_options(), any::<bool>());
        workflow.prop_map(|(kind, tasks, options, immutable)| {
            json!({
                "task": format!("celery.{kind}"), "subtask_type": kind, "immutable": immutable,
                "kwargs": {"tasks": tasks}, "args": [1], "options": options,
            })
        })
    })
}

fn any_signatures() -> impl Strategy<Value = Value> {
    prop::collection::vec(any_signature(), 0..3).prop_map(Value::from)
}

proptest! {
    #[test]
    fn what_is_not_refused_before_the_run_is_carried_out(
        link in any_signatures(),
        link_error in any_signatures(),
        chain in any_signatures(),
    ) {
        let request = request(json!({"link": link, "link_error": link_error}), chain);
        if request.unsupported(256 << 20).is_some() {
            return Ok(());
        }
        let succeeded = plan_of(&request, Outcome::Success(json!(1)));
        prop_assert_eq!(&succeeded.ended, &Ended::Success);
        for plan in [succeeded, plan_of(&request, failed())] {
            prop_assert!(plan.publications.iter().all(|sent| !sent.message.is_kept()));
        }
    }

    #[test]
    fn everything_linked_is_sent_once_with_the_same_ids(
        links in prop::collection::vec(any_link(), 0..5),
        errors in prop::collection::vec(any_link(), 0..5),
        succeeds in any::<bool>(),
        retries in 0..4u32,
    ) {
        let options = json!({
            "link": build(&links, "ok"), "link_error": build(&errors, "oops"), "retries": retries,
        });
        let request = request(options, json!([]));
        prop_assert_eq!(request.unsupported(256 << 20), None);
        let outcome = || if succeeds { Outcome::Success(json!(1)) } else { failed() };
        let plan = plan_of(&request, outcome());
        prop_assert_eq!(&plan, &plan_of(&request, outcome()));

        let sent = tasks(&plan);
        let mut names: Vec<String> = sent.iter().map(|task| task.task.clone()).collect();
        names.extend(sent.iter().flat_map(|task| task.embed.chain.iter().map(|step| step.task.clone())));
        names.sort();
        let wanted = if succeeds { expected(&links, "ok") } else { expected(&errors, "oops") };
        prop_assert_eq!(names, wanted);

        let mut ids: Vec<&str> = sent.iter().map(|task| task.id.as_str()).collect();
        ids.extend(sent.iter().flat_map(|task| task.embed.chain.iter().filter_map(Signature::task_id)));
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "no two children share an id");
        prop_assert!(sent.iter().all(|task| task.parent_id.as_deref() == Some(ID) && task.root_id == "root"));
    }
}
