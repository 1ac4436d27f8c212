//! What a worker counts, under celery-exporter's names and labels where it has them, so that its dashboards
//! work (<https://github.com/danihodovic/celery-exporter>).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use petiole_celery::plan::Ended;
use petiole_celery::{Exception, Refusal};
use petiole_modules::ModuleName;
use petiole_permits::Limit;
use petiole_runtime::BudgetUse;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::tell::usage::Told;

/// Stands for every name that no module has, so that senders can't make up metrics.
const UNKNOWN: &str = "(unknown)";
/// Stands for the exceptions of a task beyond the first [`MAX_EXCEPTIONS`], and for names that are none.
const OTHER: &str = "(other)";

/// Pairs of a task and a queue that are told apart, over the life of the worker; further ones are unknown.
const MAX_TASKS: usize = 10_000;
/// Classes of exceptions that are told apart for each of them: a guest may make up any.
const MAX_EXCEPTIONS: usize = 20;
/// The longest name of an exception that is shown, in bytes.
const MAX_EXCEPTION_NAME: usize = 64;

/// celery-exporter's, which are those of Prometheus' client for Python; in seconds.
const RUNTIME_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const MIB: f64 = 1024.0 * 1024.0;
const MEMORY_BUCKETS: [f64; 7] = [
    MIB,
    4.0 * MIB,
    16.0 * MIB,
    64.0 * MIB,
    256.0 * MIB,
    1024.0 * MIB,
    4096.0 * MIB,
];

type Seconds = Counter<f64, AtomicU64>;

/// A task and the queue its message came from: celery-exporter's labels. `hostname` is on every metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TaskLabels {
    name: String,
    queue_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedLabels {
    name: String,
    queue_name: String,
    exception: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NetworkLabels {
    direction: &'static str,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModuleLabels {
    module: String,
}

/// The metrics of one worker.
pub(crate) struct Metrics {
    registry: Registry,
    known: Mutex<HashMap<TaskLabels, HashSet<String>>>,
    received: Family<TaskLabels, Counter>,
    started: Family<TaskLabels, Counter>,
    succeeded: Family<TaskLabels, Counter>,
    failed: Family<FailedLabels, Counter>,
    rejected: Family<TaskLabels, Counter>,
    revoked: Family<TaskLabels, Counter>,
    retried: Family<TaskLabels, Counter>,
    runtime: Family<TaskLabels, Histogram, fn() -> Histogram>,
    ignored: Family<TaskLabels, Counter>,
    refused: Family<TaskLabels, Counter>,
    postponed: Family<TaskLabels, Counter>,
    faults: Family<TaskLabels, Counter>,
    cpu: Family<Name, Seconds>,
    memory: Family<Name, Histogram, fn() -> Histogram>,
    host_calls: Family<Name, Counter>,
    network: Family<NetworkLabels, Counter>,
    limits: Family<LimitLabels, Counter>,
    modules_failed: Family<ModuleLabels, Gauge>,
    active: Gauge,
    ready: Gauge,
    memory_budget: Gauge,
    memory_used: Gauge,
    memory_waiting: Gauge,
    messages: Gauge,
}

impl Metrics {
    /// `hostname`: the worker's node name.
    pub(crate) fn new(hostname: &str) -> Self {
        let labels = [("hostname".into(), hostname.to_owned().into())];
        let mut registry = Registry::with_labels(labels.into_iter());
        let metrics = Self {
            registry: Registry::default(),
            known: Mutex::default(),
            received: Family::default(),
            started: Family::default(),
            succeeded: Family::default(),
            failed: Family::default(),
            rejected: Family::default(),
            revoked: Family::default(),
            retried: Family::default(),
            runtime: Family::new_with_constructor(|| Histogram::new(RUNTIME_BUCKETS)),
            ignored: Family::default(),
            refused: Family::default(),
            postponed: Family::default(),
            faults: Family::default(),
            cpu: Family::default(),
            memory: Family::new_with_constructor(|| Histogram::new(MEMORY_BUCKETS)),
            host_calls: Family::default(),
            network: Family::default(),
            limits: Family::default(),
            modules_failed: Family::default(),
            active: Gauge::default(),
            ready: Gauge::default(),
            memory_budget: Gauge::default(),
            memory_used: Gauge::default(),
            memory_waiting: Gauge::default(),
            messages: Gauge::default(),
        };
        metrics.register(&mut registry);
        Self {
            registry,
            ..metrics
        }
    }

    fn register(&self, registry: &mut Registry) {
        let counters = [
            ("celery_task_received", "Messages of a task", &self.received),
            ("celery_task_started", "Runs that began", &self.started),
            (
                "celery_task_succeeded",
                "Tasks that returned",
                &self.succeeded,
            ),
            (
                "celery_task_rejected",
                "Messages that their task rejected",
                &self.rejected,
            ),
            (
                "celery_task_revoked",
                "Messages that came after their time",
                &self.revoked,
            ),
            (
                "celery_task_retried",
                "Tasks that asked to be run again",
                &self.retried,
            ),
            (
                "petiole_task_ignored",
                "Tasks that wanted no result",
                &self.ignored,
            ),
            (
                "petiole_task_refused",
                "Messages that were not run: unknown, malformed, expired, not fitting the types",
                &self.refused,
            ),
            (
                "petiole_task_postponed",
                "Messages given back to the broker until their time",
                &self.postponed,
            ),
            (
                "petiole_task_faults",
                "Deliveries left unsettled, or put off, by a fault of the host",
                &self.faults,
            ),
        ];
        for (name, help, family) in counters {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "celery_task_failed",
            "Tasks that failed, with those that were refused",
            self.failed.clone(),
        );
        registry.register(
            "celery_task_runtime",
            "Seconds that tasks took that returned",
            self.runtime.clone(),
        );
        registry.register(
            "petiole_task_cpu_seconds",
            "Time on a CPU",
            self.cpu.clone(),
        );
        registry.register(
            "petiole_task_peak_memory_bytes",
            "The largest sum of linear memories of a run",
            self.memory.clone(),
        );
        registry.register(
            "petiole_task_host_calls",
            "Calls of imported functions",
            self.host_calls.clone(),
        );
        registry.register(
            "petiole_task_network_bytes",
            "Bytes received and sent over the network",
            self.network.clone(),
        );
        registry.register(
            "petiole_limit_exceeded",
            "Tasks that a limit ended or kept from running",
            self.limits.clone(),
        );
        registry.register(
            "petiole_modules_failed",
            "1 for each module that is active in the catalog and not loaded here",
            self.modules_failed.clone(),
        );
        let up = Gauge::<i64>::default();
        up.set(1);
        registry.register("celery_worker_up", "The worker answers", up);
        registry.register(
            "celery_worker_tasks_active",
            "Tasks that run now",
            self.active.clone(),
        );
        registry.register(
            "petiole_worker_ready",
            "1 while tasks are taken",
            self.ready.clone(),
        );
        for (name, help, gauge) in [
            (
                "petiole_memory_budget_bytes",
                "What the memory of all tasks together stays within",
                &self.memory_budget,
            ),
            (
                "petiole_memory_used_bytes",
                "What they have of it, with what is kept for small ones",
                &self.memory_used,
            ),
            (
                "petiole_memory_waiting",
                "Tasks that wait for memory",
                &self.memory_waiting,
            ),
            (
                "petiole_messages_bytes",
                "Messages that are prefetched or worked on",
                &self.messages,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// The labels of a task; `name` is none where no module has it.
    pub(crate) fn labels(&self, name: Option<&str>, queue: &str) -> TaskLabels {
        let labels = TaskLabels {
            name: name.unwrap_or(UNKNOWN).to_owned(),
            queue_name: queue.to_owned(),
        };
        let mut known = self.known();
        if known.contains_key(&labels) {
            return labels;
        }
        if known.len() >= MAX_TASKS {
            return TaskLabels {
                name: UNKNOWN.to_owned(),
                ..labels
            };
        }
        known.insert(labels.clone(), HashSet::new());
        drop(known);
        // As celery-exporter does: what has not happened yet is 0, so that its first time is seen as a rise.
        for family in [
            &self.received,
            &self.started,
            &self.succeeded,
            &self.rejected,
            &self.revoked,
            &self.retried,
            &self.ignored,
            &self.refused,
            &self.postponed,
            &self.faults,
        ] {
            drop(family.get_or_create(&labels));
        }
        labels
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<TaskLabels, HashSet<String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn received(&self, task: &TaskLabels) {
        self.received.get_or_create(task).inc();
    }

    pub(crate) fn postponed(&self, task: &TaskLabels) {
        self.postponed.get_or_create(task).inc();
    }

    pub(crate) fn fault(&self, task: &TaskLabels) {
        self.faults.get_or_create(task).inc();
    }

    /// Counts a task as active until the guard is dropped.
    pub(crate) fn started(&self, task: &TaskLabels) -> Active<'_> {
        self.started.get_or_create(task).inc();
        self.active.inc();
        Active(&self.active)
    }

    pub(crate) fn refused(&self, task: &TaskLabels, refusal: &Refusal) {
        self.refused.get_or_create(task).inc();
        match refusal {
            Refusal::Expired => drop(self.revoked.get_or_create(task).inc()),
            Refusal::ArgumentsTooLarge { .. } | Refusal::TooMuchMemory { .. } => {
                self.limit(task, Limit::Arguments);
                self.failed(task, &refusal.exception());
            }
            Refusal::ContentDisallowed { .. }
            | Refusal::Malformed { .. }
            | Refusal::UnknownTask { .. }
            | Refusal::ModuleRefused { .. }
            | Refusal::Arguments { .. }
            | Refusal::WorkerLost { .. }
            | Refusal::NoMemoryLeft { .. }
            | Refusal::Unsupported { .. }
            | Refusal::NotCarriedOut { .. } => self.failed(task, &refusal.exception()),
        }
    }

    /// Counts a run, by how its plan says that the task has ended.
    pub(crate) fn ended(&self, task: &TaskLabels, ended: &Ended, told: &Told) {
        let usage = &told.usage;
        match ended {
            Ended::Success => {
                self.succeeded.get_or_create(task).inc();
                let seconds = usage.wall.as_secs_f64();
                self.runtime.get_or_create(task).observe(seconds);
            }
            Ended::Failure { exception, .. } => self.failed(task, exception),
            Ended::Retry { .. } => drop(self.retried.get_or_create(task).inc()),
            Ended::Requeued { .. } | Ended::Rejected { .. } => {
                self.rejected.get_or_create(task).inc();
            }
            Ended::Ignored => drop(self.ignored.get_or_create(task).inc()),
            // these are not run, and counted by `refused` and `postponed`
            Ended::Revoked | Ended::Postponed => {}
        }
        if let Some(limit) = told.limit {
            self.limit(task, limit);
        }
        let name = Name {
            name: task.name.clone(),
        };
        self.cpu
            .get_or_create(&name)
            .inc_by(usage.cpu.as_secs_f64());
        let memory = u32::try_from(usage.peak_memory).unwrap_or(u32::MAX);
        self.memory.get_or_create(&name).observe(f64::from(memory));
        self.host_calls
            .get_or_create(&name)
            .inc_by(usage.host_calls);
        self.network(task, "in", usage.bytes_in);
        self.network(task, "out", usage.bytes_out);
    }

    fn failed(&self, task: &TaskLabels, exception: &Exception) {
        let labels = FailedLabels {
            name: task.name.clone(),
            queue_name: task.queue_name.clone(),
            exception: self.exception(task, &exception.exc_type),
        };
        self.failed.get_or_create(&labels).inc();
    }

    /// The exception's name, where it is one of the first.
    fn exception(&self, task: &TaskLabels, name: &str) -> String {
        let is_name = name.len() <= MAX_EXCEPTION_NAME
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let mut known = self.known();
        match known.get_mut(task).filter(|_| is_name) {
            Some(exceptions) if exceptions.contains(name) => name.to_owned(),
            Some(exceptions) if exceptions.len() < MAX_EXCEPTIONS => {
                exceptions.insert(name.to_owned());
                name.to_owned()
            }
            Some(_) | None => OTHER.to_owned(),
        }
    }

    fn limit(&self, task: &TaskLabels, limit: Limit) {
        let labels = LimitLabels {
            limit: limit.name(),
            name: task.name.clone(),
        };
        self.limits.get_or_create(&labels).inc();
    }

    fn network(&self, task: &TaskLabels, direction: &'static str, bytes: u64) {
        if bytes > 0 {
            let name = task.name.clone();
            let labels = NetworkLabels { direction, name };
            self.network.get_or_create(&labels).inc_by(bytes);
        }
    }

    /// In OpenMetrics' text format.
    pub(crate) fn text<'a>(
        &self,
        ready: bool,
        failed: impl IntoIterator<Item = &'a ModuleName>,
        memory: BudgetUse,
        messages: u64,
    ) -> String {
        self.ready.set(i64::from(ready));
        for (gauge, value) in [
            (&self.memory_budget, memory.total),
            (&self.memory_used, memory.used),
            (&self.memory_waiting, memory.waiting),
            (
                &self.messages,
                usize::try_from(messages).unwrap_or(usize::MAX),
            ),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.modules_failed.clear();
        for module in failed {
            let module = module.to_string();
            let labels = ModuleLabels { module };
            self.modules_failed.get_or_create(&labels).set(1);
        }
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// A task that runs.
pub(crate) struct Active<'a>(&'a Gauge);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use petiole_runtime::Usage;

    use super::*;

    fn told(limit: Option<Limit>) -> Told {
        Told {
            usage: Usage {
                wall: Duration::from_millis(20),
                cpu: Duration::from_millis(5),
                peak_memory: 2 << 20,
                host_calls: 3,
                bytes_in: 10,
                ..Usage::default()
            },
            limit,
            result: String::new(),
            long: false,
        }
    }

    const MEMORY: BudgetUse = BudgetUse {
        total: 1024,
        used: 512,
        peak: 768,
        waiting: 2,
    };

    fn raised(name: &str) -> Ended {
        Ended::Failure {
            exception: Exception::new("a", name, "b"),
            traceback: None,
        }
    }

    #[test]
    fn a_task_is_counted_under_celery_exporters_names_and_labels() {
        let metrics = Metrics::new("w@\"h\"");
        let task = metrics.labels(Some("my_app.add"), "celery");
        metrics.received(&task);
        drop(metrics.started(&task));
        metrics.ended(&task, &Ended::Success, &told(None));
        let exceeded = raised("MemoryLimitExceeded");
        metrics.ended(&task, &exceeded, &told(Some(Limit::Memory)));
        metrics.refused(&task, &Refusal::ArgumentsTooLarge { size: 2, limit: 1 });
        metrics.refused(&task, &Refusal::Expired);
        let failed = "shop.orders".parse().unwrap();
        let text = metrics.text(true, [&failed], MEMORY, 12);
        let host = r#"hostname="w@\"h\"""#;
        let task_labels = r#"name="my_app.add",queue_name="celery""#;
        let labels = format!("{host},{task_labels}");
        for line in [
            format!("celery_task_received_total{{{labels}}} 1"),
            format!("celery_task_started_total{{{labels}}} 1"),
            format!("celery_task_succeeded_total{{{labels}}} 1"),
            format!("celery_task_retried_total{{{labels}}} 0"),
            format!("celery_task_revoked_total{{{labels}}} 1"),
            format!("celery_task_failed_total{{{labels},exception=\"MemoryLimitExceeded\"}} 1"),
            format!("celery_task_failed_total{{{labels},exception=\"ArgumentsTooLarge\"}} 1"),
            format!("celery_task_runtime_count{{{labels}}} 1"),
            format!("celery_task_runtime_bucket{{{host},le=\"0.025\",{task_labels}}} 1"),
            format!("celery_task_runtime_bucket{{{host},le=\"0.01\",{task_labels}}} 0"),
            format!("petiole_task_refused_total{{{labels}}} 2"),
            format!("petiole_task_cpu_seconds_total{{{host},name=\"my_app.add\"}} 0.01"),
            format!(
                "petiole_task_peak_memory_bytes_bucket{{{host},le=\"4194304.0\",name=\"my_app.add\"}} 2"
            ),
            format!("petiole_task_host_calls_total{{{host},name=\"my_app.add\"}} 6"),
            format!(
                "petiole_task_network_bytes_total{{{host},direction=\"in\",name=\"my_app.add\"}} 20"
            ),
            format!(
                "petiole_limit_exceeded_total{{{host},limit=\"memory\",name=\"my_app.add\"}} 1"
            ),
            format!(
                "petiole_limit_exceeded_total{{{host},limit=\"arguments\",name=\"my_app.add\"}} 1"
            ),
            format!("celery_worker_up{{{host}}} 1"),
            format!("celery_worker_tasks_active{{{host}}} 0"),
            format!("petiole_worker_ready{{{host}}} 1"),
            format!("petiole_modules_failed{{{host},module=\"shop.orders\"}} 1"),
            format!("petiole_memory_budget_bytes{{{host}}} 1024"),
            format!("petiole_memory_used_bytes{{{host}}} 512"),
            format!("petiole_memory_waiting{{{host}}} 2"),
            format!("petiole_messages_bytes{{{host}}} 12"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let text = metrics.text(true, [], MEMORY, 0);
        assert!(!text.contains("shop.orders"), "{text}");
    }

    #[test]
    fn nobody_can_make_up_names_without_end() {
        let metrics = Metrics::new("w@h");
        assert_eq!(metrics.labels(None, "celery").name, UNKNOWN);
        let task = metrics.labels(Some("a.b"), "celery");
        for n in 0..1000 {
            metrics.ended(&task, &raised(&format!("Made{n}")), &told(None));
        }
        metrics.ended(&task, &raised("no\nname"), &told(None));
        metrics.ended(&task, &raised(&"N".repeat(1000)), &told(None));
        let text = metrics.text(false, [], MEMORY, 0);
        let failed = text
            .lines()
            .filter(|line| line.starts_with("celery_task_failed_total"));
        assert_eq!(failed.count(), MAX_EXCEPTIONS + 1);
        for n in 0..MAX_TASKS + 10 {
            metrics.labels(Some(&format!("task{n}")), "celery");
        }
        assert_eq!(metrics.known().len(), MAX_TASKS);
        assert_eq!(metrics.labels(Some("one more"), "celery").name, UNKNOWN);
    }
}
