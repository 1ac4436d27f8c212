//! The metrics of a worker, under celery-exporter's names and labels where it has them, so that its dashboards
//! work (<https://github.com/danihodovic/celery-exporter>).

mod families;
mod task;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use petiole_modules::ModuleName;
use petiole_runtime::BudgetUse;
use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::families::{Adding, Families, ModuleLabels};
pub(crate) use self::task::TaskMetrics;

/// Stands for every name that no module has, so that senders can't make up metrics.
const UNKNOWN: &str = "(unknown)";
/// Pairs of a task and a queue that are told apart, over the life of the worker; further ones are unknown.
const MAX_TASKS: usize = 10_000;

/// The metrics of one worker.
pub(crate) struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    /// By queue and name.
    tasks: RwLock<HashMap<String, HashMap<String, Arc<TaskMetrics>>>>,
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
        let families = Arc::new(Families::new(&mut registry));
        let mut add = Adding(&mut registry);
        let up: Gauge = add.metric("celery_worker_up", "The worker answers");
        up.set(1);
        Self {
            families,
            tasks: RwLock::default(),
            ready: add.metric("petiole_worker_ready", "1 while tasks are taken"),
            memory_budget: add.metric(
                "petiole_memory_budget_bytes",
                "What the memory of all tasks together stays within",
            ),
            memory_used: add.metric(
                "petiole_memory_used_bytes",
                "What they have of it, with what is kept for small ones",
            ),
            memory_waiting: add.metric("petiole_memory_waiting", "Tasks that wait for memory"),
            messages: add.metric(
                "petiole_messages_bytes",
                "Messages that are prefetched or worked on",
            ),
            registry,
        }
    }

    /// Those of a task; `name` is none where no module has it.
    pub(crate) fn task(&self, name: Option<&str>, queue: &str) -> Arc<TaskMetrics> {
        let name = name.unwrap_or(UNKNOWN);
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tasks.get(queue).and_then(|tasks| tasks.get(name)) {
            return Arc::clone(known);
        }
        drop(tasks);
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = tasks.values().map(HashMap::len).sum::<usize>() >= MAX_TASKS;
        let name = if is_full { UNKNOWN } else { name };
        let of_queue = tasks.entry(queue.to_owned()).or_default();
        let new = || Arc::new(TaskMetrics::new(Arc::clone(&self.families), name, queue));
        Arc::clone(of_queue.entry(name.to_owned()).or_insert_with(new))
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
        let modules_failed = &self.families.modules_failed;
        modules_failed.clear();
        for module in failed {
            let module = module.to_string();
            modules_failed
                .get_or_create(&ModuleLabels { module })
                .set(1);
        }
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests;
