//! Messages that are sent again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::results::Results;
use super::{Context, Ended, Plan, Policy, REQUEUE_DELAY, REQUEUES_AT_ONCE, Source};
use crate::{
    Destination, Exception, Message, Publication, Refusal, Request, RetryAt, State, headers, time,
};

/// The same message with one retry more, to the queue it came from: a delayed message can't go by an
/// exchange of its own.
pub(super) fn retry(
    at: &Context<'_>,
    exception: Exception,
    when: RetryAt,
    default_delay: Duration,
) -> Plan {
    let countdown = |delay| SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    let eta = match when {
        RetryAt::Default => time::after(at.now, countdown(default_delay)),
        RetryAt::Countdown(delay) => time::after(at.now, countdown(delay)),
        RetryAt::Eta(eta) => eta,
    };
    let not_before = Some(eta).filter(|eta| *eta > at.now);
    let mut message = copy(&at.request.message);
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

    let mut results = Results::new(at.policy, at.now);
    results.add(at, State::Retry, exception.to_json(), None, Vec::new());
    results.into_plan(vec![publication], Ended::Retry { exception })
}

/// The same message at the end of its queue: at its head, where `basic.reject` would put it, it would keep
/// the others waiting.
pub(super) fn requeue(at: &Context<'_>, reason: String) -> Plan {
    let mut message = copy(&at.request.message);
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
    Results::new(at.policy, at.now).into_plan(vec![publication], Ended::Requeued { reason })
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

/// The same message with the reason why it is not processed, to where such messages are kept.
pub(super) fn keep(
    message: &Message,
    refusal: &Refusal,
    source: &Source,
    policy: &Policy,
) -> Publication {
    copy(message).kept(&policy.quarantine, &refusal.to_string(), &source.queue)
}

/// A message without the marks of its way here. It loses its `expiration` too: the broker would drop
/// it while it waits, where the header `expires` makes a worker store REVOKED.
fn copy(message: &Message) -> Message {
    let mut message = message.clone();
    message.headers = headers::without_brokers(&message.headers);
    message.properties.expiration = None;
    message
}
