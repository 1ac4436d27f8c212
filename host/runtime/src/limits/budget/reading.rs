//! The memory that results are read with: they are values of this process before anybody knows how large they are.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::budget::waits::{NoMemoryLeft, Waits};

/// The unit that memory is counted in, in bytes.
pub(super) const UNIT: usize = 64 * 1024;

/// Memory of all that read results, which they have in turn. Whoever has some waits for nothing else of the budget, so nobody
/// waits for ever.
#[derive(Debug)]
pub(super) struct Pool {
    units: Arc<Semaphore>,
    /// For results that have been read, and wait to be out: they must not keep others from computing.
    kept: Arc<Semaphore>,
    total: usize,
}

/// Memory that one run reads its result with.
#[derive(Debug)]
pub(crate) struct Reading {
    pool: Arc<Semaphore>,
    for_kept: Arc<Semaphore>,
    /// The most that it may take, in units; 0 where it is too small to be counted.
    most: u32,
    has: Option<OwnedSemaphorePermit>,
    kept: Option<OwnedSemaphorePermit>,
    waits: Arc<Waits>,
}

impl Pool {
    /// `kept`: for results that have been read, in bytes.
    pub(super) fn new(bytes: usize, kept: usize) -> Self {
        let units = |bytes: usize| (bytes / UNIT).min(Semaphore::MAX_PERMITS / 2);
        let (total, kept) = (units(bytes), units(kept));
        Self {
            units: Arc::new(Semaphore::new(total)),
            kept: Arc::new(Semaphore::new(kept)),
            total: total + kept,
        }
    }

    /// In bytes.
    pub(super) fn used(&self) -> usize {
        let free = self.units.available_permits() + self.kept.available_permits();
        let used = self.total.saturating_sub(free);
        used.saturating_mul(UNIT)
    }

    /// `bytes`: what the result may take at most.
    pub(super) fn reading(&self, bytes: usize, waits: &Arc<Waits>) -> Reading {
        Reading {
            pool: Arc::clone(&self.units),
            for_kept: Arc::clone(&self.kept),
            most: units(bytes),
            has: None,
            kept: None,
            waits: Arc::clone(waits),
        }
    }
}

pub(super) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Reading {
    /// Waits until a result may be read: the guest may end before it is asked again.
    ///
    /// # Errors
    /// When the run has waited for too long.
    pub(crate) async fn enter(&mut self) -> Result<(), NoMemoryLeft> {
        if self.most == 0 || self.has.is_some() {
            return Ok(());
        }
        let pool = Arc::clone(&self.pool);
        self.has = match pool.try_acquire_many_owned(self.most) {
            Ok(has) => Some(has),
            Err(_taken) => {
                let pool = Arc::clone(&self.pool);
                let acquire = pool.acquire_many_owned(self.most);
                // it is never closed
                self.waits.wait(acquire).await?.ok()
            }
        };
        Ok(())
    }

    /// The guest has not ended.
    pub(crate) fn leave(&mut self) {
        self.has = None;
    }

    /// The result has been read, and takes these bytes until this is dropped: from the memory for that, or where that
    /// is used up, from the memory it was read with.
    pub(crate) fn keep(&mut self, bytes: usize) {
        if bytes < UNIT {
            self.leave();
            return;
        }
        let kept = Arc::clone(&self.for_kept).try_acquire_many_owned(units(bytes));
        if let Ok(kept) = kept {
            self.kept = Some(kept);
            self.leave();
        } else if let Some(has) = &mut self.has {
            let more = has.num_permits().saturating_sub(bytes.div_ceil(UNIT));
            drop(has.split(more));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    fn enters(reading: &mut Reading) -> bool {
        let enter = pin!(reading.enter());
        enter.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(Ok(()))
    }

    fn waits() -> Arc<Waits> {
        Arc::new(Waits::new(Duration::MAX))
    }

    #[tokio::test]
    async fn results_are_read_in_turn_and_counted_until_they_are_gone() {
        let pool = Pool::new(10 * UNIT, 0);
        let [mut one, mut two, mut none] =
            [6 * UNIT, 10 * UNIT, 0].map(|most| pool.reading(most, &waits()));
        assert!(enters(&mut one) && enters(&mut none));
        assert!(enters(&mut one), "it has it");
        assert!(!enters(&mut two));
        one.keep(2 * UNIT + 1);
        assert_eq!(pool.used(), 3 * UNIT);
        assert!(!enters(&mut two), "it may take all that there is");
        one.keep(10);
        assert_eq!(pool.used(), 0);
        assert!(enters(&mut two));
        assert_eq!(pool.used(), 10 * UNIT);
        two.leave();
        assert_eq!(pool.used(), 0);
        assert!(enters(&mut one));
        drop(one);
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn a_result_that_is_kept_keeps_nobody_from_reading() {
        let pool = Pool::new(10 * UNIT, 5 * UNIT);
        let [mut one, mut two, mut three] = [10 * UNIT; 3].map(|most| pool.reading(most, &waits()));
        assert!(enters(&mut one));
        one.keep(4 * UNIT);
        assert!(enters(&mut two));
        assert_eq!(pool.used(), 14 * UNIT);
        // There is no more for those that are kept.
        two.keep(2 * UNIT);
        assert!(!enters(&mut three));
        drop(one);
        two.leave();
        assert!(enters(&mut three));
        drop((two, three));
        assert_eq!(pool.used(), 0);
    }
}
