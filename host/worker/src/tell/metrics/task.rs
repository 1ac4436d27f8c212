//! The metrics of one task, by the queue that its messages come from.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use petiole_celery::plan::Ended;
use petiole_celery::{Exception, Refusal};
use petiole_permits::Limit;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::families::{FailedLabels, Families, LimitLabels, Name, NetworkLabels, TaskLabels};
use crate::tell::run_report::RunReport;

/// Stands for the exceptions of a task beyond the first [`MAX_EXCEPTIONS`], and for names that are none.
const OTHER: &str = "(other)";
/// Classes of exceptions that are told apart: a guest may make up any.
pub(super) const MAX_EXCEPTIONS: usize = 20;
/// The longest name of an exception that is shown, in bytes.
const MAX_EXCEPTION_NAME: usize = 64;

/// Counts without looking a task's labels up again.
pub(crate) struct TaskMetrics {
    families: Arc<Families>,
    pub(super) labels: TaskLabels,
    name: Name,
    /// Those that are told apart.
    exceptions: Mutex<HashSet<String>>,
    received: Counter,
    started: Counter,
    succeeded: Counter,
    rejected: Counter,
    revoked: Counter,
    retried: Counter,
    ignored: Counter,
    refused: Counter,
    postponed: Counter,
    faults: Counter,
}

impl TaskMetrics {
    /// As celery-exporter does: what has not happened yet is 0, so that its first time is seen as a rise.
    pub(super) fn new(families: Arc<Families>, name: &str, queue: &str) -> Self {
        let labels = TaskLabels {
            name: name.to_owned(),
            queue_name: queue.to_owned(),
        };
        let counter = |family: &Family<TaskLabels, Counter>| family.get_or_create_owned(&labels);
        Self {
            received: counter(&families.received),
            started: counter(&families.started),
            succeeded: counter(&families.succeeded),
            rejected: counter(&families.rejected),
            revoked: counter(&families.revoked),
            retried: counter(&families.retried),
            ignored: counter(&families.ignored),
            refused: counter(&families.refused),
            postponed: counter(&families.postponed),
            faults: counter(&families.faults),
            exceptions: Mutex::default(),
            name: Name {
                name: name.to_owned(),
            },
            families,
            labels,
        }
    }

    pub(crate) fn received(&self) {
        self.received.inc();
    }

    pub(crate) fn postponed(&self) {
        self.postponed.inc();
    }

    pub(crate) fn fault(&self) {
        self.faults.inc();
    }

    /// Counts the task as active until the guard is dropped.
    pub(crate) fn started(&self) -> Active<'_> {
        self.started.inc();
        self.families.active.inc();
        Active(&self.families.active)
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.refused.inc();
        match refusal {
            Refusal::Expired => drop(self.revoked.inc()),
            Refusal::ArgumentsTooLarge { .. } | Refusal::TooMuchMemory { .. } => {
                self.limit(Limit::Arguments);
                self.failed(&refusal.exception());
            }
            Refusal::ContentDisallowed { .. }
            | Refusal::Malformed { .. }
            | Refusal::UnknownTask { .. }
            | Refusal::ModuleRefused { .. }
            | Refusal::Arguments { .. }
            | Refusal::WorkerLost { .. }
            | Refusal::NoMemoryLeft { .. }
            | Refusal::Unsupported { .. }
            | Refusal::NotCarriedOut { .. } => self.failed(&refusal.exception()),
        }
    }

    /// Counts a run, by how its plan says that the task has ended.
    pub(crate) fn ended(&self, ended: &Ended, run: &RunReport) {
        let (usage, families) = (&run.usage, &*self.families);
        match ended {
            Ended::Success => {
                self.succeeded.inc();
                let runtime = families.runtime.get_or_create(&self.labels);
                runtime.observe(usage.wall.as_secs_f64());
            }
            Ended::Failure { exception, .. } => self.failed(exception),
            Ended::Retry { .. } => drop(self.retried.inc()),
            Ended::Requeued { .. } | Ended::Rejected { .. } => drop(self.rejected.inc()),
            Ended::Ignored => drop(self.ignored.inc()),
            // these are not run, and counted by `refused` and `postponed`
            Ended::Revoked | Ended::Postponed => {}
        }
        if let Some(limit) = run.limit {
            self.limit(limit);
        }
        let cpu = families.cpu.get_or_create(&self.name);
        cpu.inc_by(usage.cpu.as_secs_f64());
        let memory = u32::try_from(usage.peak_memory).unwrap_or(u32::MAX);
        let memories = families.memory.get_or_create(&self.name);
        memories.observe(f64::from(memory));
        let host_calls = families.host_calls.get_or_create(&self.name);
        host_calls.inc_by(usage.host_calls);
        self.network("in", usage.bytes_in);
        self.network("out", usage.bytes_out);
    }

    fn failed(&self, exception: &Exception) {
        let labels = FailedLabels {
            name: self.labels.name.clone(),
            queue_name: self.labels.queue_name.clone(),
            exception: self.exception(&exception.exc_type),
        };
        self.families.failed.get_or_create(&labels).inc();
    }

    /// The exception's name, where it is one of the first.
    fn exception(&self, name: &str) -> String {
        let is_name = name.len() <= MAX_EXCEPTION_NAME
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let mut exceptions = self
            .exceptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !is_name || (exceptions.len() >= MAX_EXCEPTIONS && !exceptions.contains(name)) {
            return OTHER.to_owned();
        }
        exceptions.insert(name.to_owned());
        name.to_owned()
    }

    fn limit(&self, limit: Limit) {
        let labels = LimitLabels {
            limit: limit.name(),
            name: self.labels.name.clone(),
        };
        self.families.limits.get_or_create(&labels).inc();
    }

    fn network(&self, direction: &'static str, bytes: u64) {
        if bytes > 0 {
            let name = self.labels.name.clone();
            let labels = NetworkLabels { direction, name };
            self.families.network.get_or_create(&labels).inc_by(bytes);
        }
    }
}

/// A task that runs.
pub(crate) struct Active<'a>(&'a Gauge);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
