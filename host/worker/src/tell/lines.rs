//! Celery's log lines for a task, so that what reads a Celery worker's log reads this one.

use std::fmt::{self, Display, Formatter, Write};

use jiff::Timestamp;
use petiole_celery::plan::Ended;
use petiole_celery::{Exception, Refusal, Request, Undecodable, json};
use petiole_runtime::{HostFault, Usage};
use tracing::{debug, error, info, warn};

use crate::tell::excerpt::excerpt;
use crate::tell::run_report::RunReport;

pub(crate) fn received(request: &Request) {
    info!(target: "petiole", task = request.task, id = request.id, "Task {}[{}] received", request.task, request.id);
}

pub(crate) fn ended(request: &Request, ended: &Ended, run: &RunReport) {
    let Request { task, id, .. } = request;
    let Usage {
        wall,
        cpu,
        peak_memory,
        host_calls,
        log,
        bytes_in,
        bytes_out,
        ..
    } = run.usage;
    let (seconds, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
    match ended {
        Ended::Success => {
            info!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, "Task {task}[{id}] succeeded in {seconds:.6}s: {}", run.result);
        }
        Ended::Failure {
            exception,
            traceback,
        } => {
            let traceback = traceback.as_deref().unwrap_or_default();
            error!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, traceback, "Task {task}[{id}] raised {}", raised(exception));
        }
        Ended::Retry { exception } => {
            info!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, "Task {task}[{id}] retry: {}", raised(exception));
        }
        Ended::Requeued { reason } => {
            warn!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, "Task {task}[{id}] requeued: {}", excerpt(reason));
        }
        Ended::Rejected { reason } => {
            warn!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, "Task {task}[{id}] rejected: {}", excerpt(reason));
        }
        Ended::Ignored => {
            info!(target: "petiole", task, id, seconds, cpu, peak_memory, host_calls, log, bytes_in, bytes_out, "Task {task}[{id}] ignored");
        }
        // these are not run, and logged by `refused` and `postponed`
        Ended::Revoked | Ended::Postponed => {}
    }
}

pub(crate) fn postponed(request: &Request, until: Timestamp) {
    let Request { task, id, .. } = request;
    info!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until its eta {until}");
}

/// Not at a higher level: there may be any number of them, and the registry logs the reason once.
pub(crate) fn awaits_module(request: &Request, until: Timestamp) {
    let Request { task, id, .. } = request;
    debug!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until {until}: its module is not loaded");
}

pub(crate) fn awaits_memory(request: &Request, until: Timestamp) {
    let Request { task, id, .. } = request;
    warn!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until {until}: other tasks have all of memory_budget");
}

/// `is_new`: the others that wait for the same say it at a lower level.
pub(crate) fn awaits_host(request: &Request, until: Timestamp, fault: &HostFault, is_new: bool) {
    let Request { task, id, .. } = request;
    if is_new {
        warn!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until {until}: {fault}");
    } else {
        debug!(target: "petiole", task, id, "Task {task}[{id}] waits in the broker until {until}: {fault}");
    }
}

pub(crate) fn awaits_room(request: &Request) {
    let Request { task, id, .. } = request;
    info!(target: "petiole", task, id, "Task {task}[{id}] keeps its slot: unsent messages of tasks that have ended fill the memory there is for them");
}

/// The run's end was said by the worker that ran it, unless it was lost before.
pub(crate) fn ended_before(task: &str, id: &str, sent: usize) {
    info!(target: "petiole", task, id, sent, "Task {task}[{id}] is not run again: an earlier delivery has ended it, and {sent} of its messages were sent now");
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
    excerpt(Raised(exception))
}

/// As Python shows it.
struct Raised<'a>(&'a Exception);

impl Display for Raised<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(exception) = self;
        write!(f, "{}(", exception.exc_type)?;
        for (place, argument) in exception.exc_message.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", json::Text(argument))?;
        }
        f.write_char(')')
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tell::excerpt::EXCERPT;

    #[test]
    fn a_long_text_is_cut_once() {
        let exception = |arguments: &[Value]| Exception {
            exc_type: "ValueError".into(),
            exc_message: arguments.to_vec(),
            exc_module: "builtins".into(),
        };
        assert_eq!(raised(&exception(&[])), "ValueError()");
        assert_eq!(
            raised(&exception(&[json!("a"), json!(1)])),
            "ValueError(\"a\", 1)"
        );
        let long = raised(&exception(&[json!("ä".repeat(2000)), json!(1)]));
        assert!(
            long.starts_with("ValueError(\"ää") && long.ends_with("ä…"),
            "{long}"
        );
        assert_eq!(long.chars().count(), EXCERPT + 1);
        assert_eq!(
            excerpt(json!("a".repeat(EXCERPT - 2))).chars().count(),
            EXCERPT
        );
        assert_eq!(
            excerpt("b".repeat(EXCERPT + 1)).chars().count(),
            EXCERPT + 1
        );
    }
}
