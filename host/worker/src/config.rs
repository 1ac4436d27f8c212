use std::num::NonZeroU16;
use std::time::Duration;

use petiole_celery::plan::Policy;
use petiole_runtime::Limits;

/// What a worker consumes and how.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The queues consumed from; declared at start.
    pub queues: Vec<String>,
    /// How many tasks run at once: the number of slots.
    pub concurrency: NonZeroU16,
    /// Unsettled deliveries for each queue, as a multiple of the concurrency: while one task runs, the
    /// results of others are stored and their messages confirmed.
    pub prefetch_multiplier: NonZeroU16,
    /// What the plan needs to know of the worker.
    pub policy: Policy,
    /// How long a warm shutdown waits for running tasks before it becomes a cold one.
    pub drain: Duration,
}

impl WorkerConfig {
    /// The prefetch of each queue's consumer.
    pub fn prefetch(&self) -> u16 {
        self.concurrency
            .get()
            .saturating_mul(self.prefetch_multiplier.get())
    }
}

/// What a task may use where neither its manifest nor its message says less.
#[derive(Debug, Clone, Copy)]
pub struct TaskDefaults {
    /// Its limits.
    pub limits: Limits,
    /// The most memory that a manifest may ask for, in bytes: what the sandbox pool has for one task.
    pub max_memory: usize,
    /// Celery's `max_retries`.
    pub max_retries: u32,
    /// Celery's `default_retry_delay`.
    pub default_retry_delay: Duration,
}
