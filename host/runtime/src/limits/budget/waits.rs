//! Waits of a run for memory: its time limit does not run meanwhile, so they have a limit of their own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// The process has no memory left for the run, and it is given up. No fault of the task's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMemoryLeft {
    /// So that older ones get on.
    #[error("no memory left in the budget of {total} bytes: the task asked for {asked} more")]
    GivenUp { asked: usize, total: usize },
    /// It has waited for as long as it may.
    #[error("no memory left in {most:?}, which is the task's time limit")]
    Waited { most: Duration },
}

/// The waits of one run.
#[derive(Debug)]
pub(crate) struct Waits {
    /// The most that all of them may take together.
    most: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of those that are over.
    waited: Duration,
    /// Since when it waits, where it does; and for how many things.
    since: Option<(Instant, u32)>,
}

impl Waits {
    pub(crate) fn new(most: Duration) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    /// The time that the run has waited until now.
    pub(crate) fn so_far(&self) -> Duration {
        self.state().so_far()
    }

    /// True while it waits.
    pub(crate) fn are_on(&self) -> bool {
        self.state().since.is_some()
    }

    /// Waits for one thing.
    ///
    /// # Errors
    /// When the run has waited for as long as it may.
    pub(crate) async fn wait<T>(&self, wait: impl Future<Output = T>) -> Result<T, NoMemoryLeft> {
        let _waiting = self.begin();
        let left = self.most.saturating_sub(self.so_far());
        let waited = NoMemoryLeft::Waited { most: self.most };
        timeout(left, wait).await.map_err(|_elapsed| waited)
    }

    fn begin(&self) -> Waiting<'_> {
        let mut state = self.state();
        let (since, things) = state.since.unwrap_or_else(|| (Instant::now(), 0));
        state.since = Some((since, things.saturating_add(1)));
        Waiting(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn so_far(&self) -> Duration {
        let now = self.since.map(|(since, _)| since.elapsed());
        self.waited.saturating_add(now.unwrap_or_default())
    }
}

/// A wait that goes on until this is dropped.
struct Waiting<'a>(&'a Waits);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match state.since {
            Some((since, things)) if things > 1 => state.since = Some((since, things - 1)),
            Some(_) | None => {
                state.waited = state.so_far();
                state.since = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn waits_at_the_same_time_count_once_and_have_a_limit_together() {
        let waits = Waits::new(Duration::from_millis(20));
        let outer = waits.begin();
        {
            let mut inner = pin!(waits.wait(pending::<()>()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(inner.as_mut().poll(&mut context).is_pending());
            assert_eq!(waits.state().since.map(|(_, things)| things), Some(2));
        }
        assert!(waits.are_on());
        drop(outer);
        assert!(!waits.are_on());
        let over = waits.wait(pending::<()>()).await;
        assert!(matches!(over, Err(NoMemoryLeft::Waited { .. })));
        assert!(waits.so_far() >= waits.most && !waits.are_on());
        let had = waits.wait(std::future::ready(1)).await;
        assert_eq!(had.ok(), Some(1), "it is there");
    }
}
