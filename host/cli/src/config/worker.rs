//! The worker itself: its name, its slots, its memory, and retries.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use petiole_permits::Size;
use petiole_runtime::Budget;

use super::error::ConfigError;
use super::key::settings;
use super::layer::Merged;
use super::units::{Seconds, Share};
use super::{machine, node};

/// An idle slot costs nothing but address space, and more of them than cores keep the cores busy while tasks wait.
const SLOTS_PER_CORE: usize = 16;

const FOUR: NonZeroU16 = NonZeroU16::MIN.saturating_add(3);
/// RabbitMQ's own for quorum queues, since 4.0.
const TWENTY: NonZeroU16 = NonZeroU16::MIN.saturating_add(19);

/// The memory where the system does not tell how much there is.
const UNTOLD_MEMORY: u64 = 4 << 30;

/// The least memory for all tasks together: 32 MiB, of which one has some beside its values and tables.
const MIN_BUDGET: Size = Size::new(32 << 20);

settings! {
    /// The worker itself: its name, its slots, its memory, and retries.
    WorkerSettings with origins {
        /// The node's name, as Celery's `-n` has it.
        hostname: String = "celery@%h".to_owned(),
            Plain "hostname" ["PETIOLE_HOSTNAME"] "--hostname";
        /// Tasks that run at once.
        concurrency: NonZeroU16 = default_concurrency(),
            Plain "concurrency" ["PETIOLE_CONCURRENCY"] "--concurrency";
        /// Messages reserved for each of them.
        prefetch_multiplier: NonZeroU16 = FOUR,
            Plain "prefetch_multiplier" ["PETIOLE_PREFETCH_MULTIPLIER"] "--prefetch-multiplier";
        /// Deliveries of a message that may end without being settled.
        delivery_limit: NonZeroU16 = TWENTY,
            Plain "delivery_limit" ["PETIOLE_DELIVERY_LIMIT"];
        /// The time that a warm shutdown waits for running tasks.
        soft_shutdown_timeout: Seconds = Seconds::whole(600),
            Plain "soft_shutdown_timeout" ["PETIOLE_SOFT_SHUTDOWN_TIMEOUT"] "--soft-shutdown-timeout";
        /// Memory that all tasks together may take: the other half is for messages, plans and the worker itself.
        memory_budget: Share = Share::Percent(50),
            Plain "memory_budget" ["PETIOLE_MEMORY_BUDGET"];
        /// Tasks of a queue that run at once, where that is fewer.
        queue_concurrency: BTreeMap<String, NonZeroU16> = BTreeMap::new(),
            Table "queue_concurrency" [];
        /// The delay of a retry, where neither task nor manifest says.
        retry_delay: Seconds = Seconds::whole(180),
            Plain "retry.delay" ["PETIOLE_RETRY_DELAY"];
        /// The most retries of a task, where neither it nor its manifest says.
        retry_max: u32 = 3,
            Plain "retry.max" ["PETIOLE_MAX_RETRIES"];
    }
}

fn default_concurrency() -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores.saturating_mul(SLOTS_PER_CORE).min(1024))
        .ok()
        .and_then(NonZeroU16::new)
        .unwrap_or(NonZeroU16::MIN)
}

impl WorkerSettings {
    /// Reads them, with the name expanded and the budget as a size.
    pub(super) fn resolve(merged: &Merged) -> Result<Self, ConfigError> {
        let mut settings = Self::read(merged)?;
        settings.hostname = node::node_name(&settings.hostname, &node::host());
        settings.memory_budget = Share::Size(settings.memory_budget());
        Ok(settings)
    }

    /// Memory that all tasks together may take.
    pub(crate) fn memory_budget(&self) -> Size {
        self.memory_budget
            .of(machine::memory().unwrap_or(UNTOLD_MEMORY))
    }

    /// The same, as a number of bytes.
    pub(crate) fn budget(&self) -> usize {
        usize::try_from(self.memory_budget().bytes()).unwrap_or(usize::MAX)
    }

    /// The most memory that one task may have, beside its tables.
    pub(super) fn most_of_task(&self, table_elements: usize) -> Size {
        let most =
            Budget::most_of_run(self.budget(), self.concurrency.get().into(), table_elements);
        Size::new(u64::try_from(most).unwrap_or(u64::MAX)).in_whole_mib()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let budget = self.memory_budget();
        if budget < MIN_BUDGET {
            let reason =
                format!("memory_budget {budget} is less than {MIN_BUDGET}: no task could run");
            return Err(self.origins.wrong("memory_budget", reason));
        }
        let mut queues = self.queue_concurrency.keys();
        match queues.find(|queue| queue.trim().is_empty()) {
            Some(queue) => Err(self.origins.wrong_entry(
                "queue_concurrency",
                queue,
                "queue_concurrency: a queue has a name",
            )),
            None => Ok(()),
        }
    }

    /// Settings that can be used as they are, and will hardly do.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let beyond = beyond(self.memory_budget(), machine::memory().map(Size::new));
        let origin = self.origins.of("memory_budget");
        let warning = beyond.map(|warning| format!("{origin}: {warning}"));
        warning.into_iter().collect()
    }
}

/// A warning of a budget that is more than the memory that there is, where the system tells.
fn beyond(budget: Size, memory: Option<Size>) -> Option<String> {
    let memory = memory.filter(|memory| budget > *memory)?;
    Some(format!(
        "memory_budget {budget} is more than the {memory} that this machine or its cgroup has: the system will end the \
         worker before its tasks wait; lower it, or write a part, as in \"50%\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_beyond_the_memory_that_there_is_is_told() {
        let told = |budget, memory: Option<u64>| {
            beyond(Size::new(budget), memory.map(Size::new)).is_some()
        };
        assert!(told(2 << 30, Some(1 << 30)));
        assert!(!told(1 << 30, Some(1 << 30)) && !told(u64::MAX, None));
    }
}
