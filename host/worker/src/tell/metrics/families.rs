//! The families of metrics, with their names, labels and buckets.

use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

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
type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// A task and the queue its message came from: celery-exporter's labels. `hostname` is on every metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TaskLabels {
    pub(super) name: String,
    pub(super) queue_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailedLabels {
    pub(super) name: String,
    pub(super) queue_name: String,
    pub(super) exception: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Name {
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: &'static str,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct NetworkLabels {
    pub(super) direction: &'static str,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModuleLabels {
    pub(super) module: String,
}

/// The families of tasks and modules.
pub(super) struct Families {
    pub(super) received: Family<TaskLabels, Counter>,
    pub(super) started: Family<TaskLabels, Counter>,
    pub(super) succeeded: Family<TaskLabels, Counter>,
    pub(super) failed: Family<FailedLabels, Counter>,
    pub(super) rejected: Family<TaskLabels, Counter>,
    pub(super) revoked: Family<TaskLabels, Counter>,
    pub(super) retried: Family<TaskLabels, Counter>,
    pub(super) runtime: Histograms<TaskLabels>,
    pub(super) ignored: Family<TaskLabels, Counter>,
    pub(super) refused: Family<TaskLabels, Counter>,
    pub(super) postponed: Family<TaskLabels, Counter>,
    pub(super) faults: Family<TaskLabels, Counter>,
    pub(super) cpu: Family<Name, Seconds>,
    pub(super) memory: Histograms<Name>,
    pub(super) host_calls: Family<Name, Counter>,
    pub(super) network: Family<NetworkLabels, Counter>,
    pub(super) limits: Family<LimitLabels, Counter>,
    pub(super) modules_failed: Family<ModuleLabels, Gauge>,
    pub(super) active: Gauge,
}

impl Families {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let mut add = Adding(registry);
        Self {
            received: add.metric("celery_task_received", "Messages of a task"),
            started: add.metric("celery_task_started", "Runs that began"),
            succeeded: add.metric("celery_task_succeeded", "Tasks that returned"),
            failed: add.metric(
                "celery_task_failed",
                "Tasks that failed, with those that were refused",
            ),
            rejected: add.metric("celery_task_rejected", "Messages that their task rejected"),
            revoked: add.metric("celery_task_revoked", "Messages that came after their time"),
            retried: add.metric("celery_task_retried", "Tasks that asked to be run again"),
            runtime: add.histograms(
                "celery_task_runtime",
                "Seconds that tasks took that returned",
                || Histogram::new(RUNTIME_BUCKETS),
            ),
            ignored: add.metric("petiole_task_ignored", "Tasks that wanted no result"),
            refused: add.metric(
                "petiole_task_refused",
                "Messages that were not run: unknown, malformed, expired, not fitting the types",
            ),
            postponed: add.metric(
                "petiole_task_postponed",
                "Messages given back to the broker until their time",
            ),
            faults: add.metric(
                "petiole_task_faults",
                "Deliveries left unsettled, or put off, by a fault of the host",
            ),
            cpu: add.metric("petiole_task_cpu_seconds", "Time on a CPU"),
            memory: add.histograms(
                "petiole_task_peak_memory_bytes",
                "The largest sum of linear memories of a run",
                || Histogram::new(MEMORY_BUCKETS),
            ),
            host_calls: add.metric("petiole_task_host_calls", "Calls of imported functions"),
            network: add.metric(
                "petiole_task_network_bytes",
                "Bytes received and sent over the network",
            ),
            limits: add.metric(
                "petiole_limit_exceeded",
                "Tasks that a limit ended or kept from running",
            ),
            modules_failed: add.metric(
                "petiole_modules_failed",
                "1 for each module that is active in the catalog and not loaded here",
            ),
            active: add.metric("celery_worker_tasks_active", "Tasks that run now"),
        }
    }
}

/// Registers metrics as they are made.
pub(super) struct Adding<'a>(pub(super) &'a mut Registry);

impl Adding<'_> {
    pub(super) fn metric<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.register(name, help, M::default())
    }

    fn histograms<Labels: Clone + Eq + Hash>(
        &mut self,
        name: &str,
        help: &str,
        new: fn() -> Histogram,
    ) -> Histograms<Labels>
    where
        Histograms<Labels>: Metric,
    {
        self.register(name, help, Family::new_with_constructor(new))
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}
