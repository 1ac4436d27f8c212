//! Plans for an outcome or a refusal: a total, pure function.
//!
//! Nothing is lost where a part of a plan can't be carried out (a callback with options that make no
//! sense, say): then the request is treated as refused, with the reason, which puts its message in
//! quarantine. [`Request::unsupported`] finds nearly all such cases before the task runs.

mod circumstances;
mod contents;
mod failure;
mod republish;
mod results;
mod sending;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::decode::memory_to_decode;
use crate::{
    Destination, Exception, Outcome, Publication, Refusal, Request, Signature, State, TaskMeta,
    Undecodable, time, wire,
};
use circumstances::Context;
pub use circumstances::{Policy, Ran, ResultMode, Source};
pub use contents::{Ended, Plan, Settle};
use failure::{fail, fail_and_keep, fail_beside};
use republish::rejected;
use results::Results;
use sending::NotSent;

/// Times that a task may give its message back to its queue: RabbitMQ's own limit for quorum queues since 4.0. After
/// that it counts as rejected for good, or it could run for ever.
const MAX_REQUEUES: u32 = 20;
/// Times that a run is put off for memory. Those that have it may run for long, so it comes back after
/// [`MEMORY_PAUSE`], then each time after twice as long, up to [`LONGEST_MEMORY_PAUSE`]: more than an hour in all.
const MAX_MEMORY_WAITS: u32 = 20;
const MEMORY_PAUSE: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_MEMORY_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Decides what to do about a request that was run.
pub fn plan(request: &Request, ran: Ran, source: &Source, policy: &Policy, now: Timestamp) -> Plan {
    let Ran {
        outcome,
        sent,
        lineage,
        retry,
        usage,
    } = ran;
    let at = Context {
        request,
        source,
        policy,
        now,
        usage: Some(&usage),
    };
    match outcome.unless_exhausted(request.retries, retry) {
        Outcome::Success(value) => match lineage.stamp(sent) {
            Ok(sent) => succeed(&at, value, &sent),
            Err(error) => fail_and_keep(&at, &error.into()),
        },
        Outcome::Failure {
            exception,
            traceback,
        } => fail(&at, exception, traceback),
        Outcome::Retry {
            exception,
            at: when,
            ..
        } => republish::retry(&at, exception, when, retry.default_retry_delay)
            .unwrap_or_else(|exception| fail(&at, exception, None)),
        Outcome::Reject {
            requeue: true,
            reason,
        } if request.requeues < MAX_REQUEUES => {
            republish::requeue(&at, reason).unwrap_or_else(|exception| fail(&at, exception, None))
        }
        Outcome::Reject { reason, .. } => Plan {
            settle: Settle::Reject,
            ended: Ended::Rejected {
                reason: reason.clone(),
            },
            ..fail(&at, rejected(reason), None)
        },
        Outcome::Ignore => Plan {
            results: Vec::new(),
            publications: Vec::new(),
            settle: Settle::Ack,
            ended: Ended::Ignored,
        },
    }
}

/// Decides what to do about a request that is refused before it runs.
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
        usage: None,
    };
    match refusal {
        Refusal::Expired => revoke(&at, &refusal.exception()),
        Refusal::ContentDisallowed { .. }
        | Refusal::Malformed { .. }
        | Refusal::UnknownTask { .. }
        | Refusal::ModuleRefused { .. }
        | Refusal::Arguments { .. }
        | Refusal::ArgumentsTooLarge { .. }
        | Refusal::TooMuchMemory { .. }
        | Refusal::WorkerLost { .. }
        | Refusal::NoMemoryLeft { .. }
        | Refusal::Unsupported { .. }
        | Refusal::NotCarriedOut { .. } => fail_and_keep(&at, refusal),
    }
}

/// Decides what to do about a message that is no request.
pub fn quarantine(
    undecodable: &Undecodable,
    source: &Source,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let mut results = Results::new(policy, now);
    results.add_undecodable(undecodable);
    let kept = republish::keep(&undecodable.message, &undecodable.refusal, source, policy);
    let ended = Ended::Failure {
        exception: undecodable.refusal.exception(),
        traceback: None,
    };
    results.into_plan(vec![kept], ended)
}

/// Decides what to do instead of sending a message to another task, if its broker refuses it or can't be reached in
/// time: whoever waits for that task hears that it has failed, its errbacks are called, and the message is kept with
/// its destination. There is nothing to settle.
pub fn not_sent(
    publication: &Publication,
    reason: String,
    policy: &Policy,
    now: Timestamp,
) -> Plan {
    let kept = publication.kept(&policy.quarantine, &reason);
    let refusal = Refusal::NotCarriedOut { reason };
    let Destination {
        exchange,
        routing_key,
    } = &publication.destination;
    let source = Source {
        exchange: exchange.clone(),
        routing_key: routing_key.clone(),
        queue: routing_key.clone(),
    };
    let message = || publication.message.clone();
    let limit = |_: &str| wire::BODY_LIMIT;
    let fits = memory_to_decode(&publication.message, limit) <= policy.sent_limit;
    let request = fits.then(|| Request::decode(message(), limit));
    match request {
        Some(Ok(request)) => {
            let at = Context {
                request: &request,
                source: &source,
                policy,
                now,
                usage: None,
            };
            fail_beside(&at, &refusal, kept)
        }
        Some(Err(_)) | None => {
            let ended = Ended::Failure {
                exception: refusal.exception(),
                traceback: None,
            };
            let mut results = Results::new(policy, now);
            results.add_undecodable(&Undecodable::new(message(), refusal));
            results.into_plan(vec![kept], ended)
        }
    }
}

/// Postpones a request whose `eta` is still to come: it waits in the broker, not here.
///
/// It goes back to the queue it came from, not to its exchange, which may lead to other queues too.
///
/// # Errors
/// If it can't wait there: the name of the queue is too long with the delay before it.
pub fn postpone(
    request: &Request,
    until: Timestamp,
    source: &Source,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    put_off(republish::postpone(request, until, source), now)
}

/// Puts off a request for whose run there was no memory: it waits in the broker, longer each time. Returns the time it
/// comes again as well.
///
/// # Errors
/// If it has waited often enough, or can't wait there, as for [`postpone`].
pub fn await_memory(
    request: &Request,
    source: &Source,
    now: Timestamp,
) -> Result<(Plan, Timestamp), Refusal> {
    let count = request.memory_waits;
    if count >= MAX_MEMORY_WAITS {
        return Err(Refusal::NoMemoryLeft { count });
    }
    let pause = MEMORY_PAUSE.saturating_mul(1 << count);
    let until = time::after(now, pause.min(LONGEST_MEMORY_PAUSE));
    let plan = put_off(republish::await_memory(request, until, source), now)?;
    Ok((plan, until))
}

fn put_off(publication: Publication, now: Timestamp) -> Result<Plan, Refusal> {
    wire::check_delay(&publication, now).map_err(|reason| Refusal::Malformed {
        reason: reason.to_string(),
    })?;
    Ok(Plan {
        results: Vec::new(),
        publications: vec![publication],
        settle: Settle::Ack,
        ended: Ended::Postponed,
    })
}

/// Results to store and messages to send when a running task reports its progress: Celery's `update_state`. This does
/// not settle the delivery.
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
        usage: None,
    };
    let mut results = Results::new(policy, now);
    // A state that is too large for a reply is not the last: it is left out.
    let _ = results.add(&at, state, meta, None, Vec::new());
    results.into_parts()
}

/// Callbacks, the next task of the chain and what the guest sent, with the result that lists them.
fn succeed(at: &Context<'_>, value: Value, sent: &[Signature]) -> Plan {
    let sending = match sending::after_success(at, &value, sent) {
        Ok(sending) => sending,
        Err(NotSent::Refused(refusal)) => return fail_and_keep(at, &refusal),
        Err(NotSent::Unsendable(exception)) => return fail(at, exception, None),
    };
    let mut results = Results::new(at.policy, at.now);
    match results.add(at, State::Success, value, None, sending.children) {
        Ok(()) => results.into_plan(sending.publications, Ended::Success),
        Err(reason) => fail(at, reason.result_exception("a reply"), None),
    }
}

/// Celery tells neither errbacks nor the rest of the chain of a task that is revoked.
fn revoke(at: &Context<'_>, exception: &Exception) -> Plan {
    let mut results = Results::new(at.policy, at.now);
    results.add_failure(at, State::Revoked, exception, None);
    results.into_plan(Vec::new(), Ended::Revoked)
}
