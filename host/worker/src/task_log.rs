//! Celery's log lines for a task, so that what reads a Celery worker's log reads this one.

use jiff::Timestamp;
use petiole_celery::{Exception, Outcome, Refusal, Request, Undecodable};
use petiole_runtime::Run;
use serde_json::Value;
use tracing::{error, info, warn};

/// Characters of a result or an exception that a line shows; Celery's `resultrepr_maxsize`.
const SHOWN: usize = 1024;

pub(crate) fn received(request: &Request) {
    info!(target: "petiole", task = request.task, id = request.id, "Task {}[{}] received", request.task, request.id);
}

pub(crate) fn ended(request: &Request, run: &Run) {
    let Request { task, id, .. } = request;
    let seconds = run.usage.wall.as_secs_f64();
    let peak_memory = run.usage.peak_memory;
    match &run.outcome {
        Outcome::Success(result) => {
            info!(target: "petiole", task, id, seconds, peak_memory, "Task {task}[{id}] succeeded in {seconds:.6}s: {}", shown(result));
        }
        Outcome::Failure {
            exception,
            traceback,
        } => {
            let traceback = traceback.as_deref().unwrap_or_default();
            error!(target: "petiole", task, id, seconds, peak_memory, traceback, "Task {task}[{id}] raised {}", raised(exception));
        }
        Outcome::Retry { exception, .. } => {
            info!(target: "petiole", task, id, seconds, peak_memory, "Task {task}[{id}] retry: {}", raised(exception));
        }
        Outcome::Reject { requeue, reason } => {
            let what = if *requeue { "requeued" } else { "rejected" };
            warn!(target: "petiole", task, id, seconds, peak_memory, "Task {task}[{id}] {what}: {reason}");
        }
        Outcome::Ignore => {
            info!(target: "petiole", task, id, seconds, peak_memory, "Task {task}[{id}] ignored");
        }
    }
}

pub(crate) fn postponed(request: &Request, until: Timestamp) {
    let Request { task, id, .. } = request;
    info!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until its eta {until}");
}

pub(crate) fn refused(request: &Request, refusal: &Refusal) {
    let Request { task, id, .. } = request;
    warn!(target: "petiole", task, id, "Task {task}[{id}] refused: {refusal}");
}

pub(crate) fn undecodable(message: &Undecodable, queue: &str) {
    let task = message.task.as_deref().unwrap_or("?");
    let id = message.id.as_deref().unwrap_or("?");
    warn!(target: "petiole", task, id, "Message of queue {queue} refused, task {task}[{id}]: {}", message.refusal);
}

fn raised(exception: &Exception) -> String {
    let arguments: Vec<String> = exception.exc_message.iter().map(shown).collect();
    format!("{}({})", exception.exc_type, arguments.join(", "))
}

fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}
