use std::borrow::Cow;

use super::circumstances::Context;
use super::contents::{Ended, Plan, QUOTED};
use super::results::Results;
use super::{republish, sending};
use crate::json::{self, size};
use crate::signature::SignatureRef;
use crate::wire::beginning;
use crate::{Exception, Publication, Refusal, Signature, State};

/// Fraction of the limit on what follows a task that a failure repeated for the rest of its chain may take: a quarter.
const TOLD: usize = 4;

/// A task that failed: its result, that of the rest of its chain, and its errbacks.
pub(super) fn fail(at: &Context<'_>, exception: Exception, traceback: Option<String>) -> Plan {
    let (sending, refusal) = sending::after_failure(at);
    let mut publications = sending.publications;
    publications.extend(refusal.map(|refusal| keep(at, &refusal)));
    failed(at, publications, exception, traceback)
}

/// A task that is not run: it fails, and its message is kept.
pub(super) fn fail_and_keep(at: &Context<'_>, refusal: &Refusal) -> Plan {
    fail_beside(at, refusal, keep(at, refusal))
}

/// A task that is not run: its errbacks are sent, and `kept` beside them.
pub(super) fn fail_beside(at: &Context<'_>, refusal: &Refusal, kept: Publication) -> Plan {
    let (sending, _) = sending::after_failure(at);
    let mut publications = sending.publications;
    publications.push(kept);
    failed(at, publications, refusal.exception(), None)
}

fn keep(at: &Context<'_>, refusal: &Refusal) -> Publication {
    republish::keep(&at.request.message, refusal, at.source, at.policy)
}

/// Celery stores the failure for each task that comes later in the chain as well, so that whoever
/// waits for the last one hears. Their errbacks are not called: a chain's own are on each of its tasks.
fn failed(
    at: &Context<'_>,
    publications: Vec<Publication>,
    exception: Exception,
    traceback: Option<String>,
) -> Plan {
    let mut results = Results::new(at.policy, at.now);
    results.add_failure(at, State::Failure, &exception, traceback.as_deref());
    if !at.request.ignore_result {
        let steps = steps(&at.request.embed.chain);
        let told = told(at, &exception, traceback.as_deref(), steps.len());
        for step in steps {
            results.add_step(&step, &told.exception, told.traceback);
        }
    }
    let ended = Ended::Failure {
        exception,
        traceback,
    };
    results.into_plan(publications, ended)
}

/// A failure as the rest of a chain gets it.
struct Told<'a> {
    exception: Cow<'a, Exception>,
    traceback: Option<&'a str>,
}

/// All of it, unless that is too much for all the steps: then the class and the beginning of its message.
fn told<'a>(
    at: &Context<'_>,
    exception: &'a Exception,
    traceback: Option<&'a str>,
    steps: usize,
) -> Told<'a> {
    let size = size(&exception.to_json()) + traceback.map_or(0, str::len);
    if size.saturating_mul(steps) <= at.policy.sent_limit / TOLD {
        let exception = Cow::Borrowed(exception);
        return Told {
            exception,
            traceback,
        };
    }
    let message = exception.exc_message.first().and_then(json::text);
    let message = beginning(message.as_deref().unwrap_or_default(), QUOTED);
    Told {
        exception: Cow::Owned(Exception::new(
            beginning(&exception.exc_module, QUOTED),
            beginning(&exception.exc_type, QUOTED),
            format!("{message}..."),
        )),
        traceback: None,
    }
}

/// The rest of a chain, and of each chord in it the body, whose result stands for the chord's.
fn steps(chain: &[Signature]) -> Vec<SignatureRef<'_>> {
    let mut steps: Vec<_> = chain.iter().map(Signature::view).collect();
    let mut index = 0;
    while let Some(step) = steps.get(index) {
        let body = match step.subtask_type {
            Some("chord") => step.kwargs.get("body"),
            _ => None,
        };
        steps.extend(body.and_then(|body| SignatureRef::from_json(body).ok()));
        index += 1;
    }
    steps
}
