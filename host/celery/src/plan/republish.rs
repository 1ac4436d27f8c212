//! Messages that are sent again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::circumstances::{Context, Policy, Source};
use super::contents::{Ended, Plan, QUOTED};
use super::results::Results;
use crate::wire::{Unsendable, beginning};
use crate::{
    Destination, Exception, Message, Publication, Refusal, Request, RetryAt, State, headers, json,
    time, wire,
};

/// Times that a message given back by its task is ready again at once, as in Celery. What it waits for may take longer.
pub(super) const REQUEUES_AT_ONCE: u32 = 10;
/// The pause before each later time.
const REQUEUE_DELAY: SignedDuration = SignedDuration::from_secs(1);

/// The same message with one retry more, to the queue it came from: a delayed message can't go by an exchange of its
/// own. If the broker can't hold it, the reason why the task fails.
pub(super) fn retry(
    at: &Context<'_>,
    exception: Exception,
    when: RetryAt,
    default_delay: Duration,
) -> Result<Plan, Exception> {
    let countdown = |delay| SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    let eta = match when {
        RetryAt::Default => time::after(at.now, countdown(default_delay)),
        RetryAt::Countdown(delay) => time::after(at.now, countdown(delay)),
        RetryAt::Eta(eta) => eta,
    };
    let not_before = Some(eta).filter(|eta| *eta > at.now);
    let mut message = another_run(&at.request.message);
    message.headers.insert(
        "retries".into(),
        at.request.retries.saturating_add(1).into(),
    );
    message
        .headers
        .insert("eta".into(), not_before.map(time::to_iso).into());
    let publication = Publication {
        destination: Destination::queue(&at.source.queue),
        message,
        mandatory: true,
        not_before,
    };
    if let Err(reason) = wire::check_delay(&publication, at.now) {
        return Err(unrepeatable("retried", &exception, &reason));
    }

    let mut results = Results::new(at.policy, at.now);
    results.add_failure(at, State::Retry, &exception, None);
    Ok(results.into_plan(vec![publication], Ended::Retry { exception }))
}

/// The same message at the end of its queue: at its head, where `basic.reject` would put it, it would keep
/// the others waiting. As for [`retry`].
pub(super) fn requeue(at: &Context<'_>, reason: String) -> Result<Plan, Exception> {
    let mut message = another_run(&at.request.message);
    let requeues = at.request.requeues.saturating_add(1);
    message
        .headers
        .insert(headers::REQUEUES.into(), requeues.into());
    let publication = Publication {
        destination: Destination::queue(&at.source.queue),
        message,
        mandatory: true,
        not_before: (requeues > REQUEUES_AT_ONCE).then(|| time::after(at.now, REQUEUE_DELAY)),
    };
    if let Err(unsendable) = wire::check_delay(&publication, at.now) {
        return Err(unrepeatable("requeued", &rejected(reason), &unsendable));
    }
    let results = Results::new(at.policy, at.now);
    Ok(results.into_plan(vec![publication], Ended::Requeued { reason }))
}

/// The exception for a task that fails since it can't run again. Its own exception is quoted.
fn unrepeatable(how: &str, exception: &Exception, reason: &Unsendable) -> Exception {
    let own = exception.exc_message.first().and_then(json::text);
    let own = beginning(own.as_deref().unwrap_or_default(), QUOTED);
    let class = beginning(&exception.exc_type, QUOTED);
    Exception::new(
        "petiole.exceptions",
        "Unsendable",
        format!("the task can't be {how} after {class}({own:?}): {reason}"),
    )
}

/// The same message, to where it came from.
pub(super) fn postpone(request: &Request, until: Timestamp, source: &Source) -> Publication {
    Publication {
        destination: Destination::queue(&source.queue),
        message: copy(&request.message),
        mandatory: true,
        not_before: Some(until),
    }
}

/// The same message, which says that it waits for memory once more.
pub(super) fn await_memory(request: &Request, until: Timestamp, source: &Source) -> Publication {
    let mut publication = postpone(request, until, source);
    let waits = request.memory_waits.saturating_add(1);
    let headers = &mut publication.message.headers;
    headers.insert(headers::MEMORY_WAITS.into(), waits.into());
    publication
}

/// The same message with the reason why it is not processed, to where such messages are kept.
pub(super) fn keep(
    message: &Message,
    refusal: &Refusal,
    source: &Source,
    policy: &Policy,
) -> Publication {
    without_marks(message).kept(&policy.quarantine, &refusal.to_string(), &source.queue)
}

/// The same message for another run of its task.
fn another_run(message: &Message) -> Message {
    let mut message = copy(message);
    message.headers.shift_remove(headers::MEMORY_WAITS);
    message
}

/// The message without its `expiration`: the broker would drop it while it waits, where the header `expires` makes a
/// worker store REVOKED.
fn copy(message: &Message) -> Message {
    let mut message = without_marks(message);
    message.properties.expiration = None;
    message
}

/// The message without the marks of its way here.
fn without_marks(message: &Message) -> Message {
    Message {
        properties: message.properties.clone(),
        headers: headers::without_brokers(&message.headers),
        body: message.body.clone(),
    }
}

/// The exception that Celery 5.7 stores for a message rejected for good: a failure, so that nobody waits for ever.
pub(super) fn rejected(reason: String) -> Exception {
    Exception {
        exc_type: "Reject".into(),
        exc_message: vec![reason.into(), false.into()],
        exc_module: "celery.exceptions".into(),
    }
}
