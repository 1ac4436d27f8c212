//! Memory that a message costs, from its decoding to its plan: in proportion to its size, whatever its shape.
//! A binary of its own, as it counts what the allocator is asked for.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use jiff::Timestamp;
use petiole_celery::plan::{ResultMode, Source, plan, refuse};
use petiole_celery::{
    Exception, Message, Outcome, Properties, Refusal, Request, Signature, memory_to_decode,
};
use serde_json::json;

use support::{policy, ran};

/// Bytes that may be allocated for each byte of a body: held at once, and in all. The densest JSON there is takes 72
/// bytes of memory for 2, more while its array grows.
const PEAK: u64 = 80;
const TOTAL: u64 = 120;
/// The same for each task that it names: the message to be, which is written once more for each check.
const PEAK_OF_TASK: u64 = 6 << 10;
const TOTAL_OF_TASK: u64 = 32 << 10;
/// Bytes that may be allocated besides, for results and the like.
const CONSTANT: u64 = 64 << 10;

/// JSON with as many values as a text of this size can have.
fn dense(size: usize) -> String {
    format!("[{}0]", "0,".repeat(size / 2))
}

fn tasks(size: usize) -> String {
    let count = (size / 13).max(1);
    vec![r#"{"task":"t"}"#; count].join(",")
}

fn workflow(kind: &str, tasks: &str) -> String {
    format!(r#"{{"task":"celery.{kind}","subtask_type":"{kind}","kwargs":{{"tasks":[{tasks}]}}}}"#)
}

/// `levels` workflows in one another, of these kinds in turn, around a leaf.
fn nested(kinds: &[&str], levels: usize, leaf: &str) -> String {
    let kinds = kinds.iter().cycle().take(levels);
    kinds.fold(leaf.to_owned(), |inner, kind| {
        // a second one, as a group of one in a chain is only its task
        let inner = format!(r#"{{"task":"t"}},{inner}"#);
        workflow(kind, &inner)
    })
}

/// Fields that follow a task: `callbacks`, `errbacks` and `chain`, of a body of some `size` bytes.
type Shape = fn(usize) -> [String; 3];

const NONE: String = String::new();

/// A task with arguments.
fn leaf(size: usize) -> String {
    format!(r#"{{"task":"t","args":{}}}"#, dense(size))
}

fn chord(header: &str, body: &str) -> String {
    format!(
        r#"{{"task":"celery.chord","subtask_type":"chord","kwargs":{{"header":[{header}],"body":{body}}},"options":{{"task_id":"c"}}}}"#
    )
}

/// As many values that are kept as text.
fn exotic(size: usize) -> String {
    format!(r#"{{"task":"t","args":[{}NaN]}}"#, "-0,".repeat(size / 3))
}

/// As many names that are.
fn exotic_names(size: usize) -> String {
    let name = r#"{"\ud800":0},"#;
    format!(
        r#"{{"task":"t","args":[{}NaN]}}"#,
        name.repeat(size / name.len())
    )
}

const SHAPES: [(&str, Shape); 17] = [
    ("arguments", |size| [leaf(size), NONE, NONE]),
    ("values that Rust has no number for", |size| {
        [exotic(size), NONE, NONE]
    }),
    ("names with a lone surrogate", |size| {
        [exotic_names(size), NONE, NONE]
    }),
    ("callbacks", |size| [tasks(size), NONE, NONE]),
    ("errbacks", |size| [NONE, tasks(size), NONE]),
    ("the rest of a chain", |size| [NONE, NONE, tasks(size)]),
    ("a group", |size| {
        [workflow("group", &tasks(size)), NONE, NONE]
    }),
    ("a chain", |size| {
        [workflow("chain", &tasks(size)), NONE, NONE]
    }),
    ("a chain in a group", |size| {
        let chain = nested(&["group"], 1, &workflow("chain", &tasks(size)));
        [chain, NONE, NONE]
    }),
    ("groups in groups", |size| {
        [nested(&["group"], 38, &leaf(size)), NONE, NONE]
    }),
    ("groups in groups as errbacks", |size| {
        [NONE, nested(&["group"], 38, &leaf(size)), NONE]
    }),
    ("chains in chains", |size| {
        [nested(&["chain"], 38, &leaf(size)), NONE, NONE]
    }),
    ("groups in chains in groups", |size| {
        [nested(&["group", "chain"], 36, &leaf(size)), NONE, NONE]
    }),
    ("groups in chains as the rest of a chain", |size| {
        [NONE, NONE, nested(&["group", "chain"], 36, &leaf(size))]
    }),
    ("a chord in chains in groups", |size| {
        let chord = chord(&tasks(size), r#"{"task":"t"}"#);
        [nested(&["chain", "group"], 20, &chord), NONE, NONE]
    }),
    ("chords in chords as the rest of a chain", |size| {
        let chords = (0..40).fold(leaf(size), |inner, _| chord("", &inner));
        [NONE, NONE, chords]
    }),
    ("callbacks of a task in groups", |size| {
        let linked = format!(r#"{{"task":"t","options":{{"link":[{}]}}}}"#, tasks(size));
        [nested(&["group"], 36, &linked), NONE, NONE]
    }),
];

fn message(parts: &[String; 3]) -> Message {
    let [callbacks, errbacks, chain] = parts;
    let body = format!(
        r#"[[],{{}},{{"callbacks":[{callbacks}],"errbacks":[{errbacks}],"chain":[{chain}],"chord":null}}]"#
    );
    let headers = json!({"task": "t", "id": "5d2ab1a0-0000-4000-8000-000000000001"});
    Message {
        properties: Properties {
            content_type: Some("application/json".into()),
            ..Properties::default()
        },
        headers: headers.as_object().unwrap().clone(),
        body: body.into(),
    }
}

fn source() -> Source {
    Source {
        exchange: String::new(),
        routing_key: "q".into(),
        queue: "q".into(),
    }
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// The cost of each stage.
fn costs(message: Message) -> Vec<(&'static str, AllocationInfo)> {
    stages(message, |stage| measure(stage))
}

/// Applies `measured` to each stage of a message.
fn stages<T>(message: Message, measured: impl Fn(&mut dyn FnMut()) -> T) -> Vec<(&'static str, T)> {
    let (source, policy, now) = (source(), policy(ResultMode::Stored), now());
    let (mut message, mut request) = (Some(message), None);
    let decoded = measured(&mut || {
        let message = message.take();
        request = message.and_then(|message| Request::decode(message, |_| usize::MAX).ok());
    });
    let request = request.unwrap();
    let mut refusal = None;
    let checked = measured(&mut || refusal = request.unsupported(256 << 20));
    let mut of_plans = vec![("decode", decoded), ("check", checked)];
    let exception = Exception::new("shop", "Boom", "it broke");
    let failure = Outcome::Failure {
        exception,
        traceback: None,
    };
    for (stage, outcome) in [
        ("success", Outcome::Success(json!(1))),
        ("failure", failure),
    ] {
        let mut ran = Some(ran(outcome));
        let planned = measured(&mut || {
            drop(
                ran.take()
                    .map(|ran| plan(&request, ran, &source, &policy, now)),
            );
        });
        of_plans.push((stage, planned));
    }
    let refusal = refusal.unwrap_or(Refusal::NotCarriedOut {
        reason: "why".into(),
    });
    let refused = measured(&mut || drop(refuse(&request, &refusal, &source, &policy, now)));
    of_plans.push(("refusal", refused));
    of_plans
}

fn time(stage: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    stage();
    start.elapsed()
}

/// The time of each stage: the quickest of three, slowed least by what else the machine does.
fn times(message: &Message) -> Vec<(&'static str, Duration)> {
    let [first, second, third] = [(); 3].map(|()| stages(message.clone(), time));
    let runs = first.into_iter().zip(second).zip(third);
    runs.map(|(((stage, first), (_, second)), (_, third))| (stage, first.min(second).min(third)))
        .collect()
}

#[test]
fn a_message_costs_time_in_proportion_to_its_size() {
    const GROWTH: usize = 8;
    let mut over = Vec::new();
    for (name, shape) in SHAPES {
        let small = times(&message(&shape(20_000)));
        let large = times(&message(&shape(20_000 * GROWTH)));
        for ((stage, small), (_, large)) in small.into_iter().zip(large) {
            let growth = large.as_secs_f64() / small.max(Duration::from_micros(100)).as_secs_f64();
            println!("{name}, {stage}: {small:?}, {large:?}, {growth:.1} times");
            // Growth with the square would be 64.
            if growth > 32.0 {
                over.push(format!("{name}, {stage}: {small:?}, {large:?}"));
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn a_message_costs_memory_in_proportion_to_its_size() {
    let mut over = Vec::new();
    for (name, shape) in SHAPES {
        for size in [30_000, 120_000] {
            let message = message(&shape(size));
            let size = u64::try_from(message.body.len()).unwrap();
            let tasks = message.body.windows(7).filter(|part| part == br#"{"task""#);
            let tasks = u64::try_from(tasks.count()).unwrap();
            for (stage, cost) in costs(message) {
                let (peak, total) = (cost.bytes_max, cost.bytes_total);
                if peak > PEAK * size + PEAK_OF_TASK * tasks + CONSTANT
                    || total > TOTAL * size + TOTAL_OF_TASK * tasks + CONSTANT
                {
                    over.push(format!(
                        "{name}, {size} bytes, {tasks} tasks, {stage}: {peak} bytes at once, {total} in all"
                    ));
                }
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// Values of which a text takes the most for its size, each in its own way.
const DENSE: &[&str] = &[
    "0",
    "-0",
    "NaN",
    "[]",
    "{}",
    "[0]",
    "[[0]]",
    r#"{"a":0}"#,
    r#"{"a":0,"b":0,"c":0,"d":0,"e":0}"#,
    r#""""#,
    r#""a""#,
    r#""\n""#,
    r#""\ud800""#,
    r#"{"\ud800":-0}"#,
];

#[test]
fn decoding_takes_no_more_than_was_told_before() {
    let long = format!(r#""{}""#, "x".repeat(50_000));
    let escaped = format!(r#""{}""#, r"\n".repeat(50_000));
    let mixed = format!(r#""\n{}",NaN"#, "x".repeat(50_000));
    for value in DENSE
        .iter()
        .copied()
        .chain([long.as_str(), &escaped, &mixed])
    {
        for count in [1, 4, 5, 1_000, 1_025, 20_000] {
            let values = vec![value; if value.len() > 1_000 { 1 } else { count }].join(",");
            for args in [format!("[{values}]"), format!(r#"[{{"x":[{values}]}}]"#)] {
                let headers = json!({"task": "t", "id": "1"});
                let message = Message {
                    body: format!("[{args},{{}},{{}}]").into(),
                    headers: headers.as_object().unwrap().clone(),
                    ..message(&[NONE, NONE, NONE])
                };
                let told = u64::try_from(memory_to_decode(&message, |_| usize::MAX)).unwrap();
                let cost = measure(|| drop(Request::decode(message, |_| usize::MAX)));
                let peak = cost.bytes_max;
                assert!(
                    peak <= told + (4 << 10),
                    "{count} times {value}: {peak}, not {told}"
                );
                assert!(
                    told <= 8 * peak + (2 << 10),
                    "{count} times {value}: {told} for {peak}"
                );
            }
        }
    }
}

#[test]
fn what_is_copied_to_the_tasks_of_a_workflow_is_held_once() {
    let errbacks: Vec<String> = (0..10_000)
        .map(|index| format!(r#"{{"task":"e{index}"}}"#))
        .collect();
    let chain = |steps: &str| {
        format!(
            r#"{{"task":"celery.chain","subtask_type":"chain","kwargs":{{"tasks":[{steps}]}},"options":{{"link_error":[{}]}}}}"#,
            errbacks.join(",")
        )
    };
    let own = vec![r#"{"task":"t","options":{"link_error":{"task":"own"}}}"#; 300];
    for steps in [tasks(300 * 13), own.join(",")] {
        let message = message(&[chain(&steps), NONE, NONE]);
        let size = u64::try_from(message.body.len()).unwrap();
        for (stage, cost) in costs(message) {
            // Beside the message, a list of references for each step, and one body while it grows.
            let limit = PEAK * size + 300 * 10_000 * 8 + (48 << 20);
            let peak = cost.bytes_max;
            assert!(peak <= limit, "{stage}: {peak} bytes at once");
        }
    }
}

#[test]
fn what_a_guest_sends_costs_memory_in_proportion_to_its_size() {
    for levels in [2, 15] {
        for size in [30_000, 120_000] {
            let sent = nested(&["group"], levels, &leaf(size));
            let signature = Signature::from_value(serde_json::from_str(&sent).unwrap()).unwrap();
            let request = Request::decode(message(&[NONE, NONE, NONE]), |_| usize::MAX).unwrap();
            let mut ran = ran(Outcome::Success(json!(1)));
            ran.sent = vec![signature];
            let size = u64::try_from(sent.len()).unwrap();
            let cost = measure(|| {
                drop(plan(
                    &request,
                    ran,
                    &source(),
                    &policy(ResultMode::Stored),
                    now(),
                ))
            });
            let limit = |bytes: u64, task: u64| bytes * size + task * 32 + CONSTANT;
            let (peak, total) = (cost.bytes_max, cost.bytes_total);
            assert!(
                peak <= limit(10, PEAK_OF_TASK),
                "{levels} levels: {peak} bytes at once"
            );
            assert!(
                total <= limit(20, TOTAL_OF_TASK),
                "{levels} levels: {total} bytes in all"
            );
        }
    }
}
