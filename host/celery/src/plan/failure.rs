use super::results::Results;
use super::{Context, Ended, Plan, republish, sending};
use crate::signature::SignatureRef;
use crate::{Exception, Publication, Refusal, Signature, State};

/// A task that failed: its result, that of the rest of its chain, and its errbacks.
pub(super) fn fail(at: &Context<'_>, exception: Exception, traceback: Option<String>) -> Plan {
    let (sending, refusal) = sending::after_failure(at);
    let mut publications = sending.publications;
    publications.extend(refusal.map(|refusal| keep(at, &refusal)));
    failed(at, publications, exception, traceback)
}

/// A task that is not run: it fails, and its message is kept.
pub(super) fn fail_and_keep(at: &Context<'_>, refusal: &Refusal) -> Plan {
    let (sending, _) = sending::after_failure(at);
    let mut publications = sending.publications;
    publications.push(keep(at, refusal));
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
        for step in steps(&at.request.embed.chain) {
            results.add_step(&step, &exception, traceback.as_deref());
        }
    }
    let ended = Ended::Failure {
        exception,
        traceback,
    };
    results.into_plan(publications, ended)
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
