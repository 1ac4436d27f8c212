use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use petiole_broker::Terms;
use petiole_celery::plan::Policy;

use crate::carry_out::PATIENCE;

/// The configuration of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The queues consumed from; declared at start.
    pub queues: Vec<String>,
    /// Tasks that run at once: the number of slots.
    pub concurrency: NonZeroU16,
    /// Tasks of a queue that run at once, where that is fewer.
    pub queue_concurrency: BTreeMap<String, NonZeroU16>,
    /// Unsettled deliveries for each queue, as a multiple of its concurrency: while one task runs, the
    /// results of others are stored and their messages confirmed.
    pub prefetch_multiplier: NonZeroU16,
    /// Deliveries of a message that may end without being settled, after which it is not run any more: before
    /// the broker drops it (the queue's `x-delivery-limit`).
    pub delivery_limit: NonZeroU16,
    /// The worker's part in a plan.
    pub policy: Policy,
    /// Time for which a warm shutdown waits for running tasks before it becomes a cold one.
    pub drain: Duration,
}

impl WorkerConfig {
    /// Tasks of a queue that run at once; none for as many as there are slots.
    pub fn cap(&self, queue: &str) -> Option<NonZeroU16> {
        let cap = self.queue_concurrency.get(queue).copied();
        cap.filter(|cap| *cap < self.concurrency)
    }

    /// The terms on which a queue is consumed, where a task takes `longest` at most: the last message of a prefetch waits for those
    /// before it, runs, and is carried out.
    pub(crate) fn terms(&self, queue: &str, longest: Duration) -> Terms {
        let at_once = self.cap(queue).unwrap_or(self.concurrency);
        let multiplier = self.prefetch_multiplier.get();
        let turns = u32::from(multiplier).saturating_add(1);
        Terms {
            prefetch: at_once.get().saturating_mul(multiplier),
            held: Some(longest.saturating_mul(turns).saturating_add(PATIENCE)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use petiole_celery::Routes;
    use petiole_celery::plan::ResultMode;

    use super::*;

    #[test]
    fn what_a_queue_prefetches_follows_its_cap_and_how_long_the_limits() {
        let config = WorkerConfig {
            queues: Vec::new(),
            concurrency: NonZeroU16::new(16).unwrap(),
            queue_concurrency: [("heavy", 2), ("wide", 100)]
                .map(|(queue, cap)| (queue.to_owned(), NonZeroU16::new(cap).unwrap()))
                .into(),
            prefetch_multiplier: NonZeroU16::new(4).unwrap(),
            delivery_limit: NonZeroU16::new(20).unwrap(),
            policy: Policy {
                hostname: "w@h".into(),
                origin: "1@h".into(),
                routes: Routes::new("celery"),
                results: ResultMode::Disabled,
                result_extended: false,
                quarantine: "kept".into(),
                sent_limit: 256 << 20,
            },
            drain: Duration::ZERO,
        };
        let terms = |name| config.terms(name, Duration::from_secs(60));
        let queue = |name| (config.cap(name).map(NonZeroU16::get), terms(name).prefetch);
        assert_eq!(queue("celery"), (None, 64));
        assert_eq!(queue("heavy"), (Some(2), 8));
        assert_eq!(queue("wide"), (None, 64), "there are no more slots");
        let held = Duration::from_secs(5 * 60 + 15 * 60);
        assert_eq!(terms("celery").held, Some(held));
        let never = config.terms("celery", Duration::MAX);
        assert_eq!(never.held, Some(Duration::MAX));
    }
}
