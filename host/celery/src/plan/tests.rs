#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod failure;
mod lineage;
mod properties;
mod refusals;
mod results;
mod retries;
mod success;
mod unsendable;

use std::time::Duration;

use serde_json::{Map, json};

use super::*;
use crate::{
    ChildKind, Destination, Kept, Lineage, Message, Origin, Properties, RetryAt, RetrySettings,
    Routes, child_id, compose,
};

const ID: &str = "5d2ab1a0-0000-4000-8000-000000000001";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn source() -> Source {
    Source {
        exchange: "tasks".into(),
        routing_key: "key".into(),
        queue: "wasm".into(),
    }
}

fn policy() -> Policy {
    let mut routes = Routes::new("celery");
    routes.add("py.*", Destination::queue("python"));
    Policy {
        hostname: "w@h".into(),
        origin: "1@h".into(),
        routes,
        results: ResultMode::Stored,
        result_extended: false,
        quarantine: "kept".into(),
        sent_limit: 256 << 20,
    }
}

fn signature(value: Value) -> Signature {
    Signature::from_value(value).unwrap()
}

fn signatures(value: Value) -> Vec<Signature> {
    value
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .map(signature)
        .collect()
}

/// A request as it comes off the wire, with these options and this rest of a chain.
fn request(options: Value, chain: Value) -> Request {
    let task =
        signature(json!({"task": "wasm.run", "args": [1], "kwargs": {"k": 2}, "options": options}));
    let from = Origin {
        parent_id: Some("parent"),
        root_id: Some("root"),
        origin: "9@django",
        sent_again: 0,
    };
    let sent = compose(
        &task,
        ID,
        &signatures(chain),
        from,
        &Routes::new("celery"),
        now(),
    )
    .unwrap();
    Request::decode(sent.message, |_| usize::MAX).unwrap()
}

fn plan_of(request: &Request, outcome: Outcome) -> Plan {
    plan(request, ran(outcome), &source(), &policy(), now())
}

/// A run that sent nothing.
fn ran(outcome: Outcome) -> Ran {
    Ran {
        outcome,
        sent: Vec::new(),
        lineage: Lineage {
            descendants: 100,
            depth: 10,
        },
        retry: RetrySettings {
            max_retries: 3,
            most_retries: 9,
            default_retry_delay: Duration::from_secs(180),
        },
        usage: Map::new(),
    }
}

fn boom() -> Exception {
    Exception::new("shop.errors", "Boom", "it broke")
}

fn failed() -> Outcome {
    Outcome::Failure {
        exception: boom(),
        traceback: Some("wasm trace".into()),
    }
}

fn retry(at: RetryAt, max_retries: Option<u32>) -> Outcome {
    Outcome::Retry {
        exception: boom(),
        at,
        max_retries,
    }
}

/// Decoded task messages, in order.
fn tasks(plan: &Plan) -> Vec<Request> {
    plan.publications
        .iter()
        .map(|sent| Request::decode(sent.message.clone(), |_| usize::MAX).unwrap())
        .collect()
}

fn names(requests: &[Request]) -> Vec<&str> {
    requests
        .iter()
        .map(|request| request.task.as_str())
        .collect()
}

fn statuses(plan: &Plan) -> Vec<(&str, &str)> {
    plan.results
        .iter()
        .map(|meta| (meta.task_id.as_str(), meta.status.as_str()))
        .collect()
}
