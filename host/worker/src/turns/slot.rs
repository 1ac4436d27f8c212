//! Places for tasks to run: as many at once as the worker has slots, and of a queue no more than its cap.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots as one queue sees them. Whoever waits gets one in turn, also beside other queues.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    worker: Arc<Semaphore>,
    queue: Option<Arc<Semaphore>>,
}

/// A place for a task that runs.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    /// None while the task waits for something else.
    held: Option<Held>,
}

/// First the queue's, so that nobody holds a slot who waits for the queue's cap. Semaphores that are never
/// closed always give one.
#[derive(Debug)]
struct Held {
    _queue: Option<OwnedSemaphorePermit>,
    _worker: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Of queues that may take all.
    pub(crate) fn new(concurrency: u16) -> Self {
        Self {
            worker: Arc::new(Semaphore::new(usize::from(concurrency))),
            queue: None,
        }
    }

    /// The same slots for a queue that may take no more than `cap`.
    pub(crate) fn capped(&self, cap: u16) -> Self {
        Self {
            worker: Arc::clone(&self.worker),
            queue: Some(Arc::new(Semaphore::new(usize::from(cap)))),
        }
    }

    /// Waits for one.
    pub(crate) async fn slot(self) -> Slot {
        let held = Some(self.hold().await);
        Slot { slots: self, held }
    }

    async fn hold(&self) -> Held {
        let queue = match &self.queue {
            Some(queue) => Arc::clone(queue).acquire_owned().await.ok(),
            None => None,
        };
        Held {
            _queue: queue,
            _worker: Arc::clone(&self.worker).acquire_owned().await.ok(),
        }
    }
}

impl Slot {
    /// Waits for something else, and leaves the place to others meanwhile.
    pub(crate) async fn leave_for<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.held = None;
        let done = wait.await;
        self.held = Some(self.slots.hold().await);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_capped_queue_leaves_slots_to_others() {
        let all = Slots::new(3);
        let capped = all.capped(2);
        let _held = [capped.clone().slot().await, capped.clone().slot().await];
        assert!(capped.clone().slot().now_or_never().is_none());
        assert!(all.clone().slot().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_for_something_else_holds_no_slot() {
        let slots = Slots::new(1).capped(1);
        let mut first = slots.clone().slot().await;
        let (done, wait) = oneshot::channel();
        let mut waiting = pin!(first.leave_for(wait));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let second = slots.clone().slot().now_or_never();
        assert!(second.is_some());
        let _ = done.send("turn");
        assert!(
            futures::poll!(waiting.as_mut()).is_pending(),
            "the slot is taken"
        );
        drop(second);
        assert_eq!(waiting.await, Ok("turn"));
        assert!(slots.slot().now_or_never().is_none(), "it is held again");
    }
}
