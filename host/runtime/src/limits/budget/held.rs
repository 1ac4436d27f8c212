//! Memory of one run: what it needs beyond its slot's share is granted, waited for, or the run is given up.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::limits::budget::Budget;
use crate::limits::budget::ledger::{Age, Answer};
use crate::limits::budget::waits::{NoMemoryLeft, Waits};

/// The part of a [`Budget`] that one run has. It goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Budget,
    /// With the slot's share, both.
    claim: usize,
    used: usize,
    /// None as long as the slot's share was enough.
    age: Option<Age>,
    waits: Arc<Waits>,
}

impl Held {
    /// Nothing yet. `claim`: the most that the run will have, in bytes.
    pub(crate) fn new(budget: &Budget, claim: usize, waits: &Arc<Waits>) -> Self {
        Self {
            budget: budget.clone(),
            claim,
            used: 0,
            age: None,
            waits: Arc::clone(waits),
        }
    }

    /// The budget that it is a part of.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The same run without what it has.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::new(&self.budget, 0, &self.waits);
        std::mem::replace(self, nothing)
    }

    /// Asks for more bytes than the run has claimed, and waits for them.
    ///
    /// # Errors
    /// As [`grow`](Self::grow).
    pub(crate) async fn grow_beyond(&mut self, bytes: usize) -> Result<(), NoMemoryLeft> {
        self.claim = self.claim.saturating_add(bytes);
        self.grow(bytes).await
    }

    /// Asks for more bytes, and waits for them.
    ///
    /// # Errors
    /// When the run is given up, or has waited for too long. What it has it keeps until it is dropped.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), NoMemoryLeft> {
        let used = self.used.saturating_add(bytes);
        let of_slot = self.budget.0.of_slot;
        let asked = used.saturating_sub(self.used.max(of_slot));
        if asked > 0 {
            self.ask(asked).await?;
        }
        self.used = used;
        Ok(())
    }

    async fn ask(&mut self, asked: usize) -> Result<(), NoMemoryLeft> {
        let budget = self.budget.clone();
        let (age, answer) = {
            let mut state = budget.state();
            let age = *self.age.get_or_insert_with(|| state.ledger.open());
            let claim = self.claim.saturating_sub(budget.0.of_slot);
            if state.ledger.ask(age, asked, claim) {
                return Ok(());
            }
            let (sender, answer) = oneshot::channel();
            state.waiting.insert(age, sender);
            state.settle();
            (age, answer)
        };
        let waiting = Waiting {
            budget: &budget,
            age,
            asked,
            answer,
        };
        match self.waits.wait(waiting.await_answer()).await? {
            Answer::Granted => Ok(()),
            Answer::GivenUp => Err(NoMemoryLeft::GivenUp {
                asked,
                total: budget.0.total,
            }),
        }
    }

    /// Gives back all but these bytes.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.shrink(self.used.saturating_sub(bytes));
    }

    /// Gives these bytes back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let before = self.used;
        self.used = before.saturating_sub(bytes);
        let released = before.saturating_sub(self.used.max(self.budget.0.of_slot));
        if let Some(age) = self.age.filter(|_| released > 0) {
            let mut state = self.budget.state();
            state.ledger.release(age, released);
            state.settle();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(age) = self.age {
            let mut state = self.budget.state();
            state.ledger.close(age);
            state.settle();
        }
    }
}

/// A run that waits; one whose wait is broken off asks for nothing any more.
struct Waiting<'a> {
    budget: &'a Budget,
    age: Age,
    asked: usize,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting<'_> {
    async fn await_answer(mut self) -> Answer {
        // its sender is kept until it was used
        (&mut self.answer).await.unwrap_or(Answer::GivenUp)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.ledger.withdraw(self.age);
        state.waiting.remove(&self.age);
        // granted, and never heard of
        if self.answer.try_recv() == Ok(Answer::Granted) {
            state.ledger.release(self.age, self.asked);
        }
        state.settle();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::limits::budget::BudgetUse;

    const MIB: usize = 1 << 20;
    /// 80 MiB for runs. 4 slots: 2 MiB each, 20 MiB to read results with, 10 MiB for those that were read, 42 MiB for all.
    const TOTAL: usize = 128 * MIB;
    const OF_ALL: usize = 42;
    /// Counted as used where nobody runs: of the slots, for messages, and for plans that are made.
    const ALWAYS: usize = (8 + 8 + 8) * MIB;

    fn waits() -> Arc<Waits> {
        Arc::new(Waits::new(Duration::MAX))
    }

    #[tokio::test]
    async fn a_slots_share_is_had_without_asking() {
        let budget = Budget::new(TOTAL, 4, 1);
        let mut large = Held::new(&budget, 0, &waits());
        large.grow((2 + OF_ALL) * MIB).await.unwrap();
        assert_eq!(budget.usage().used, ALWAYS + OF_ALL * MIB);
        let mut small: Vec<_> = (0..3).map(|_| Held::new(&budget, 0, &waits())).collect();
        for held in &mut small {
            held.grow(2 * MIB).await.unwrap();
            assert!(held.age.is_none());
        }
        drop(large);
        let of_slots = BudgetUse {
            total: TOTAL,
            used: ALWAYS,
            peak: TOTAL,
            waiting: 0,
        };
        assert_eq!(budget.usage(), of_slots);
    }

    #[tokio::test]
    async fn a_wait_that_is_broken_off_leaves_nothing() {
        let budget = Budget::new(TOTAL, 4, 1);
        let (mut first, mut second) = (
            Held::new(&budget, 0, &waits()),
            Held::new(&budget, 0, &waits()),
        );
        first.grow(30 * MIB).await.unwrap();
        {
            let mut waits = pin!(second.grow(30 * MIB));
            assert!(futures_poll(waits.as_mut()).await.is_none());
            assert_eq!(budget.usage().waiting, 1);
            // granted, and never polled again
            first.shrink(30 * MIB);
        }
        assert_eq!(budget.usage().used, ALWAYS);
        first.grow((2 + OF_ALL) * MIB).await.unwrap();
    }

    async fn futures_poll<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = std::future::ready(()) => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Runs that grow to their limit, each in its own steps; some are cancelled on their way. All come to an end, and
        /// nothing is left.
        #[test]
        fn hungry_runs_come_to_an_end(
            runs in prop::collection::vec((prop::collection::vec(1..16usize, 1..10), any::<bool>()), 1..24),
            claim in prop_oneof![Just(0), Just((2 + OF_ALL) * MIB)],
        ) {
            let mut threads = tokio::runtime::Builder::new_multi_thread();
            let threads = threads.worker_threads(2).enable_time().build().unwrap();
            let done = threads.block_on(async {
                let budget = Budget::new(TOTAL, 4, 1);
                let mut all = JoinSet::new();
                for (steps, cancelled) in runs {
                    let budget = budget.clone();
                    all.spawn(async move {
                        let run = async {
                            let (mut held, mut has) = (Held::new(&budget, claim, &waits()), 0);
                            for step in steps {
                                if has + step > OF_ALL {
                                    break;
                                }
                                held.grow(step * MIB).await?;
                                has += step;
                                tokio::task::yield_now().await;
                            }
                            held.shrink(MIB);
                            Ok::<_, NoMemoryLeft>(())
                        };
                        let limit = if cancelled { Duration::from_micros(50) } else { Duration::MAX };
                        let _ = timeout(limit, run).await;
                    });
                }
                tokio::select! {
                    () = async { while all.join_next().await.is_some() {} } => {}
                    () = sleep(Duration::from_secs(30)) => return Err(budget.usage()),
                }
                Ok(budget.usage())
            });
            let usage = done.unwrap();
            prop_assert_eq!((usage.used, usage.waiting), (ALWAYS, 0));
            prop_assert!(usage.peak <= TOTAL);
        }
    }
}
