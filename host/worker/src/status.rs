use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use petiole_broker::Broker;
use petiole_celery::Outcome;

/// What a worker does and has done: for readiness and metrics.
pub struct Status {
    broker: Arc<dyn Broker>,
    consuming: AtomicBool,
    counters: [AtomicU64; Count::ALL.len()],
    active: AtomicU64,
}

/// What a worker counts, in celery-exporter's words where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Deliveries.
    Received,
    /// Tasks whose run began.
    Started,
    /// Tasks that returned.
    Succeeded,
    /// Tasks that failed.
    Failed,
    /// Tasks that asked to be run again.
    Retried,
    /// Messages that their task rejected.
    Rejected,
    /// Tasks that wanted no result.
    Ignored,
    /// Messages that were not run: unknown, malformed, expired, not fitting the types.
    Refused,
    /// Messages sent back to the broker until their `eta`.
    Postponed,
    /// Deliveries left unsettled by a fault of the host.
    Faults,
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Received,
        Self::Started,
        Self::Succeeded,
        Self::Failed,
        Self::Retried,
        Self::Rejected,
        Self::Ignored,
        Self::Refused,
        Self::Postponed,
        Self::Faults,
    ];

    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Success(_) => Self::Succeeded,
            Outcome::Failure { .. } => Self::Failed,
            Outcome::Retry { .. } => Self::Retried,
            Outcome::Reject { .. } => Self::Rejected,
            Outcome::Ignore => Self::Ignored,
        }
    }

    /// As metrics name it: `received`, `succeeded`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Rejected => "rejected",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Postponed => "postponed",
            Self::Faults => "faults",
        }
    }
}

impl Status {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            consuming: AtomicBool::new(false),
            counters: Default::default(),
            active: AtomicU64::new(0),
        }
    }

    /// Whether tasks are taken: connected, and not shutting down.
    pub fn ready(&self) -> bool {
        self.consuming.load(Ordering::Relaxed) && self.broker.connected()
    }

    /// How many tasks run now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// How often it has happened since the worker started.
    pub fn get(&self, what: Count) -> u64 {
        self.counters
            .get(what as usize)
            .map_or(0, |n| n.load(Ordering::Relaxed))
    }

    pub(crate) fn count(&self, what: Count) {
        if let Some(counter) = self.counters.get(what as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_consuming(&self, consuming: bool) {
        self.consuming.store(consuming, Ordering::Relaxed);
    }

    /// Counts a task as active until the guard is dropped.
    pub(crate) fn run(&self) -> Active<'_> {
        self.count(Count::Started);
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(&self.active)
    }
}

pub(crate) struct Active<'a>(&'a AtomicU64);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
