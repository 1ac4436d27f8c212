//! What follows from an outcome or a refusal: a total, pure function.
//!
//! Nothing is lost where a part of a plan can't be carried out (a callback with options that make no
//! sense, say): then the request is treated as refused, with the reason, which puts its message in
//! quarantine. [`Request::unsupported`] finds nearly all such cases before the task runs.

mod failure;
mod republish;
mod results;
mod sending;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Exception, Outcome, Publication, Refusal, Request, Routes, Signature, State, TaskMeta,
    Undecodable,
};
use failure::{fail, fail_and_keep};
use results::Results;

/// What is to be done about a delivery, in this order: store, publish and await the confirms, settle.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Stored first, in this order: the task's own result, then, where it failed, those of the rest
    /// of its chain, which can't run any more.
    pub results: Vec<TaskMeta>,
    /// Published next; all are confirmed before the delivery is settled.
    pub publications: Vec<Publication>,
    /// Done last.
    pub settle: Settle,
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// `basic.ack`.
    Ack,
    /// `basic.reject`, back to its queue.
    Requeue,
    /// `basic.reject`, dead-lettered where the queue has a dead-letter exchange.
    Reject,
}

/// Where results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultMode {
    /// To a result backend: a plan has a [`TaskMeta`].
    Stored,
    /// As a message to the request's `reply_to` (`rpc://`).
    Reply,
    /// Nowhere.
    Disabled,
}

/// The worker's part in a plan.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The worker's node name.
    pub hostname: String,
    /// Who composes messages: `pid@host`.
    pub origin: String,
    /// Where the tasks it sends go.
    pub routes: Routes,
    /// Where results go.
    pub results: ResultMode,
    /// Celery's `result_extended`.
    pub result_extended: bool,
    /// Celery's `default_retry_delay` (180 s).
    pub default_retry_delay: Duration,
    /// Celery's `max_retries` (3), where the outcome names none.
    pub max_retries: u32,
    /// The queue in which refused messages are kept.
    pub quarantine: String,
}

/// Where a delivery came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The queue it was consumed from.
    pub queue: String,
}

/// What is to be done about a request that was run. `sent` are the signatures that the guest sent.
pub fn plan(
    request: &Request,
    outcome: Outcome,
    sent: &[Signature],
    source: &Source,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let at = Context {
        request,
        source,
        policy,
        now,
    };
    match outcome.unless_exhausted(request.retries, policy.max_retries) {
        Outcome::Success(value) => succeed(&at, value, sent),
        Outcome::Failure {
            exception,
            traceback,
        } => fail(&at, &exception, traceback, Settle::Ack),
        Outcome::Retry {
            exception,
            at: when,
            ..
        } => republish::retry(&at, &exception, when),
        Outcome::Reject { requeue: true, .. } => Plan::settling(Settle::Requeue),
        Outcome::Reject {
            requeue: false,
            reason,
        } => fail(&at, &rejected(reason), None, Settle::Reject),
        Outcome::Ignore => Plan::settling(Settle::Ack),
    }
}

/// What is to be done about a request that is refused before it runs.
pub fn refuse(
    request: &Request,
    refusal: &Refusal,
    source: &Source,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let at = Context {
        request,
        source,
        policy,
        now,
    };
    match refusal {
        Refusal::Expired => revoke(&at, &refusal.exception()),
        Refusal::ContentDisallowed { .. }
        | Refusal::Malformed { .. }
        | Refusal::UnknownTask { .. }
        | Refusal::Arguments { .. }
        | Refusal::Unsupported { .. } => fail_and_keep(&at, refusal),
    }
}

/// What is to be done about a message that is no request.
pub fn quarantine(
    undecodable: &Undecodable,
    source: &Source,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let mut results = Results::new(policy, now);
    results.add_undecodable(undecodable);
    let kept = republish::keep(&undecodable.message, &undecodable.refusal, source, policy);
    results.into_plan(vec![kept], Settle::Ack)
}

/// What is to be done about a request whose `eta` is still to come: it waits in the broker, not here.
///
/// It goes back to the queue it came from, not to its exchange, which may lead to other queues too.
pub fn postpone(request: &Request, until: Timestamp, source: &Source) -> Plan {
    let publications = vec![republish::postpone(request, until, source)];
    Plan {
        results: Vec::new(),
        publications,
        settle: Settle::Ack,
    }
}

/// What is to be stored or sent while a task runs and says how far it is: Celery's `update_state`. The
/// delivery is not settled by it, so nothing is said of that.
pub fn update(
    request: &Request,
    state: State,
    meta: Value,
    source: &Source,
    policy: &Policy,
    now: Timestamp,
) -> (Vec<TaskMeta>, Vec<Publication>) {
    let at = Context {
        request,
        source,
        policy,
        now,
    };
    let mut results = Results::new(policy, now);
    results.add(&at, state, meta, None, Vec::new());
    let Plan {
        results,
        publications,
        ..
    } = results.into_plan(Vec::new(), Settle::Ack);
    (results, publications)
}

/// The request and the circumstances that a plan is made in.
struct Context<'a> {
    request: &'a Request,
    source: &'a Source,
    policy: &'a Policy,
    now: Timestamp,
}

impl Plan {
    fn settling(settle: Settle) -> Self {
        Self {
            results: Vec::new(),
            publications: Vec::new(),
            settle,
        }
    }
}

/// Callbacks, the next task of the chain and what the guest sent, with the result that lists them.
fn succeed(at: &Context<'_>, value: Value, sent: &[Signature]) -> Plan {
    match sending::after_success(at, &value, sent) {
        Ok(sending) => {
            let mut results = Results::new(at.policy, at.now);
            results.add(at, State::Success, value, None, sending.children);
            results.into_plan(sending.publications, Settle::Ack)
        }
        Err(refusal) => fail_and_keep(at, &refusal),
    }
}

/// Celery tells neither errbacks nor the rest of the chain of a task that is revoked.
fn revoke(at: &Context<'_>, exception: &Exception) -> Plan {
    let mut results = Results::new(at.policy, at.now);
    results.add(at, State::Revoked, exception.to_json(), None, Vec::new());
    results.into_plan(Vec::new(), Settle::Ack)
}

/// What Celery 5.7 stores for a message rejected for good: a failure, so that nobody waits for ever.
fn rejected(reason: String) -> Exception {
    Exception {
        exc_type: "Reject".into(),
        exc_message: vec![reason.into(), false.into()],
        exc_module: "celery.exceptions".into(),
    }
}
