//! The message decoder and the plan on messages that no producer would send: recorded ones, with parts of them replaced
//! at random.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use bolero::check;
use petiole_celery::plan::{ResultMode, Source, plan, quarantine, refuse};
use petiole_celery::{Exception, Message, Outcome, Publication, Refusal, Request, RetryAt};
use serde_json::{Map, Value, json};

use super::support::{policy, ran};
use super::{fixture, now};

const RECORDED: [&str; 7] = ["link", "chain", "chord", "chunks", "group", "stamp", "zlib"];

/// Replacements for a part: each is of another kind, or means something.
fn replacement(which: u8) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("celery.chord"),
        json!("celery.group"),
        json!("chain"),
        json!("2026-02-30T25:00:00Z"),
        json!("9999-12-31T23:59:59.999999-23:59"),
        json!([]),
        json!({}),
        json!([[], {}, {}]),
        json!({"task": "celery.group", "kwargs": {"tasks": [{"task": "x"}]}, "subtask_type": "group"}),
        json!({"task": "a\u{0}\u{202e}b", "args": [1], "options": {"task_id": "", "countdown": 1e12}}),
    ];
    values[usize::from(which) % values.len()].clone()
}

/// The part (as a fraction of their number), what is done to it, with what.
type Edit = (u16, u8, u8);

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The part with that number, counted from the outside in.
fn part(value: &mut Value, mut number: usize) -> Option<&mut Value> {
    if number == 0 {
        return Some(value);
    }
    number -= 1;
    let inner: Vec<&mut Value> = match value {
        Value::Array(elements) => elements.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => Vec::new(),
    };
    for one in inner {
        let size = count(one);
        if number < size {
            return part(one, number);
        }
        number -= size;
    }
    None
}

fn edited(mut value: Value, edits: &[Edit]) -> Value {
    // few, so that many a message is still a task
    for (which, what, with) in edits.iter().take(edits.len() % 3) {
        let number = count(&value) * usize::from(*which) / 65_536;
        let Some(part) = part(&mut value, number) else {
            continue;
        };
        match (what % 4, part) {
            (0, Value::Object(members)) => {
                let name = members
                    .keys()
                    .nth(usize::from(*with) % members.len().max(1))
                    .cloned();
                name.and_then(|name| members.remove(&name));
            }
            (1, Value::Array(elements)) => {
                let copied = elements.clone();
                elements.extend(copied);
            }
            (2, part) => *part = json!([part.clone()]),
            (_, part) => *part = replacement(*with),
        }
    }
    value
}

/// A recorded message with parts of its headers and its body replaced.
fn message(recorded: usize, headers: &[Edit], body: &[Edit]) -> Message {
    let mut message = fixture(RECORDED[recorded % RECORDED.len()]);
    // what AMQP has for headers is always a table
    if let Value::Object(headers) = edited(Value::Object(message.headers.clone()), headers) {
        message.headers = headers;
    }
    if let Ok(value) = serde_json::from_slice(&message.body) {
        message.body = edited(value, body).to_string().into_bytes().into();
    }
    message
}

fn outcomes() -> [Outcome; 4] {
    let exception = || Exception::new("builtins", "ValueError", "it broke");
    [
        Outcome::Success(json!({"a": [1]})),
        Outcome::Failure {
            exception: exception(),
            traceback: None,
        },
        Outcome::Retry {
            exception: exception(),
            at: RetryAt::Default,
            max_retries: Some(9),
        },
        Outcome::Reject {
            requeue: false,
            reason: "no".into(),
        },
    ]
}

/// Asserts that what Petiole sends is JSON, and a task message of its own can be read again.
fn assert_readable(publication: &Publication) {
    let message = &publication.message;
    if !publication.mandatory {
        serde_json::from_slice::<Value>(&message.body).unwrap();
    } else if publication.destination.routing_key != "kept" {
        Request::decode(message.clone(), |_| usize::MAX)
            .unwrap_or_else(|error| panic!("{}: {message:?}", error.refusal));
    }
}

/// Limits for one input: these are of some kilobytes. `linear.rs` holds large ones to their size.
const MEMORY: u64 = 2 << 20;
const TIME: Duration = Duration::from_secs(5);

/// Runs it within [`MEMORY`] and [`TIME`].
fn bounded(run: impl FnOnce()) {
    let start = Instant::now();
    let memory = measure(run).bytes_max;
    assert!(memory <= MEMORY, "{memory} bytes at once");
    let time = start.elapsed();
    assert!(time <= TIME, "{time:?}");
}

#[test]
fn any_message_is_planned_for_or_kept() {
    check!()
        .with_type::<(usize, Vec<Edit>, Vec<Edit>)>()
        .with_iterations(3_000)
        .for_each(|(recorded, headers, body)| {
            let message = message(*recorded, headers, body);
            bounded(|| assert_planned_for_or_kept(&message));
        });
}

fn assert_planned_for_or_kept(message: &Message) {
    let source = Source {
        exchange: String::new(),
        routing_key: "celery".into(),
        queue: "celery".into(),
    };
    let policies = [ResultMode::Stored, ResultMode::Reply].map(policy);
    match Request::decode(message.clone(), |_| usize::MAX) {
        Err(undecodable) => {
            let plan = quarantine(&undecodable, &source, &policies[0], now());
            let kept = plan.publications.last().unwrap();
            assert_eq!(kept.message.body, message.body);
            assert_eq!(kept.destination.routing_key, "kept");
        }
        Ok(request) => {
            assert_eq!(request.message, *message);
            for policy in &policies {
                for outcome in outcomes() {
                    let plan = plan(&request, ran(outcome), &source, policy, now());
                    plan.publications.iter().for_each(assert_readable);
                }
                let refusal = Refusal::Malformed {
                    reason: "fuzz".into(),
                };
                refuse(&request, &refusal, &source, policy, now());
            }
        }
    }
}

#[test]
fn any_bytes_are_a_request_or_are_kept() {
    check!()
        .with_iterations(3_000)
        .for_each(|body: &[u8]| bounded(|| assert_a_request_or_kept(body)));
}

fn assert_a_request_or_kept(body: &[u8]) {
    let mut message = fixture("link");
    message.body = body.to_vec().into();
    if let Err(undecodable) = Request::decode(message, |_| usize::MAX) {
        assert_eq!(undecodable.message.body, body);
    }
    // the body as headers too: a table of any JSON
    if let Ok(headers) = serde_json::from_slice::<Map<String, Value>>(body) {
        let mut message = fixture("link");
        message.headers = headers;
        let _ = Request::decode(message, |_| usize::MAX);
    }
}
