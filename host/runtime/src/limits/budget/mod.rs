//! The memory of all runs of a process together: what one needs beyond its slot's share is granted, waited for, or the
//! run is given up.

mod ledger;
mod order;
mod reading;
mod room;
mod waits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::limits::limiter::tables;
use ledger::{Age, Answer, Ledger};
pub(crate) use reading::Reading;
pub use room::{Room, Taken};
pub(crate) use waits::Waits;

/// What each slot has without asking, in bytes: small tasks need no more, so they never wait.
const SHARE_OF_SLOT: usize = 2 * 1024 * 1024;
/// The part of the budget for what messages are decoded to, until their tasks have ended: an eighth.
const DECODED: usize = 8;
/// The part of the budget for plans on their way out: an eighth.
const PLANS: usize = 8;
/// Large plans that are made at once, which nobody knows the size of before.
pub const PLANS_MADE: usize = 2;
/// The part of the budget for these: a sixteenth.
const MADE: usize = 16;
/// The part of the budget for messages that were fetched, as they came: a sixteenth.
const MESSAGES: usize = 16;
/// The part of what is left for runs that all slots together have without asking, at most: an eighth.
const SHARES_OF_SLOTS: usize = 8;
/// The part of it that results are read with: a quarter.
const READING: usize = 4;
/// The part of it for results that have been read, until they are out: an eighth.
const KEPT: usize = 8;
/// The part of it that one run may have for values of one kind (its arguments, what it sends): an eighth. Those who
/// read results at once share it.
const VALUES: usize = 8;

/// One number that the memory of all runs stays within. A clone is the same budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    /// What is for runs.
    runs: usize,
    of_slot: usize,
    readers: usize,
    reading: reading::Pool,
    decoded: Room,
    plans: Room,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    waiting: HashMap<Age, oneshot::Sender<Answer>>,
}

/// How a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetUse {
    /// All there is, in bytes.
    pub total: usize,
    /// In bytes: what all slots have without asking, and all else that was granted.
    pub used: usize,
    /// The most that may ever have been used, in bytes.
    pub peak: usize,
    /// Runs that wait for memory.
    pub waiting: usize,
}

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

impl Budget {
    /// `total`: in bytes, of which each of the `slots` has its share without asking; `readers`: how many runs may read
    /// their results at once, as many as there are processors.
    pub fn new(total: usize, slots: u32, readers: usize) -> Self {
        let slots = usize::try_from(slots).unwrap_or(usize::MAX).max(1);
        let readers = readers.clamp(1, slots);
        let messages = total / DECODED + Self::of_messages(total);
        let runs = total - messages - total / PLANS - total / MADE;
        let of_slot = SHARE_OF_SLOT.min(runs / SHARES_OF_SLOTS / slots);
        let kept = of_slot
            .saturating_mul(slots)
            .saturating_add(runs / READING)
            .saturating_add(runs / KEPT);
        let state = State {
            ledger: Ledger::new(runs.saturating_sub(kept)),
            waiting: HashMap::new(),
        };
        Self(Arc::new(Shared {
            total,
            runs,
            of_slot,
            readers,
            reading: reading::Pool::new(runs / READING, runs / KEPT),
            decoded: Room::new(total / DECODED),
            plans: Room::new(total / PLANS),
            state: Mutex::new(state),
        }))
    }

    /// The most that such a budget has for one plan on its way out, in bytes.
    pub fn most_of_plan(total: usize) -> usize {
        Room::new(total / PLANS).most()
    }

    /// What such a budget has for messages that were fetched, in bytes.
    pub fn of_messages(total: usize) -> usize {
        total / MESSAGES
    }

    /// The most that the memories of one run may have of such a budget, in bytes: its values and tables of so many
    /// elements have room beside them.
    pub fn most_of_run(total: usize, slots: u32, table_elements: usize) -> usize {
        let budget = Self::new(total, slots, 1);
        let most = budget.state().ledger.total();
        let values = budget.values().saturating_mul(2);
        most.saturating_sub(values)
            .saturating_sub(tables(table_elements))
    }

    /// The most that the values of one kind of a run may take, in bytes.
    pub(crate) fn values(&self) -> usize {
        self.0.runs / VALUES
    }

    /// The most that one run may read its result with, twice: the value, and beside it the JSON that is made of it.
    pub(crate) fn result(&self) -> usize {
        let all = self.values() / self.0.readers;
        // What all read with at once is no more than there is.
        all - all % reading::UNIT
    }

    /// How many results may be read at once: as many as there are processors.
    pub fn readers(&self) -> usize {
        self.0.readers
    }

    /// What there is for what messages are decoded to. Whoever has some of it may wait for anything else of the budget,
    /// and nobody who has anything else of it waits for this.
    pub fn decoded(&self) -> &Room {
        &self.0.decoded
    }

    /// The most that one message may be decoded to, in bytes: half of what there is, or it would wait for all others.
    pub fn most_decoded(&self) -> usize {
        self.0.decoded.most() / 2
    }

    /// What there is for the messages that follow from tasks, until they are out. Whoever has some of it waits for nothing
    /// else of the budget: tasks end whatever others wait for.
    pub fn plans(&self) -> &Room {
        &self.0.plans
    }

    /// How it is used. What is for messages as they came, and for plans that are made, counts as used.
    pub fn usage(&self) -> BudgetUse {
        let ledger = &self.state().ledger;
        let Shared {
            total,
            runs,
            reading,
            decoded,
            plans,
            ..
        } = &*self.0;
        let of_results = runs / READING + runs / KEPT;
        let of_slots = runs - of_results - ledger.total();
        let always = of_slots + Self::of_messages(*total) + total / MADE;
        let rooms = decoded.used() + plans.used();
        BudgetUse {
            total: *total,
            used: always + rooms + reading.used() + ledger.used(),
            peak: always + total / DECODED + total / PLANS + of_results + ledger.peak(),
            waiting: ledger.waiting(),
        }
    }

    /// What a run reads a result with that takes so many bytes at most.
    pub(crate) fn reading(&self, bytes: usize, waits: &Arc<Waits>) -> Reading {
        self.0.reading.reading(bytes, waits)
    }

    /// What a run in a slot has of it: nothing yet. `claim`: the most that it will have, in bytes.
    pub(crate) fn hold(&self, claim: usize, waits: &Arc<Waits>) -> Held {
        Held {
            budget: self.clone(),
            claim,
            used: 0,
            age: None,
            waits: Arc::clone(waits),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// After a change: tells those whose turn it is. One that has stopped waiting meanwhile withdraws by itself.
    fn settle(&mut self) {
        for (age, answer) in self.ledger.settle() {
            if let Some(waiting) = self.waiting.remove(&age) {
                let _ = waiting.send(answer);
            }
        }
    }
}

/// What one run has of a [`Budget`]. It goes back when this is dropped.
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
    /// What it is a part of.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The same run without what it has.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = self.budget.hold(0, &self.waits);
        std::mem::replace(self, nothing)
    }

    /// Asks for so many bytes more than the run has claimed, and waits for them.
    ///
    /// # Errors
    /// As [`grow`](Self::grow).
    pub(crate) async fn grow_beyond(&mut self, bytes: usize) -> Result<(), NoMemoryLeft> {
        self.claim = self.claim.saturating_add(bytes);
        self.grow(bytes).await
    }

    /// Asks for so many bytes more, and waits for them.
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

    /// Gives back all but so many bytes.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.shrink(self.used.saturating_sub(bytes));
    }

    /// Gives so many bytes back.
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

    use proptest::prelude::*;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    const MIB: usize = 1 << 20;
    /// 80 MiB for runs. 4 slots: 2 MiB each, 20 MiB to read results with, 10 MiB for those that were read, 42 MiB for all.
    const TOTAL: usize = 128 * MIB;
    const OF_ALL: usize = 42;
    /// What counts as used where nobody runs: of the slots, for messages, and for plans that are made.
    const ALWAYS: usize = (8 + 8 + 8) * MIB;

    fn waits() -> Arc<Waits> {
        Arc::new(Waits::new(Duration::MAX))
    }

    #[tokio::test]
    async fn a_slots_share_is_had_without_asking() {
        let budget = Budget::new(TOTAL, 4, 1);
        let mut large = budget.hold(0, &waits());
        large.grow((2 + OF_ALL) * MIB).await.unwrap();
        assert_eq!(budget.usage().used, ALWAYS + OF_ALL * MIB);
        let mut small: Vec<_> = (0..3).map(|_| budget.hold(0, &waits())).collect();
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

    #[test]
    fn many_slots_share_an_eighth() {
        let budget = Budget::new(64 * MIB, 1024, 1);
        assert_eq!(budget.0.of_slot, 5 * 1024);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, 0), 10 * MIB);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, 1 << 20), 2 * MIB);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, usize::MAX), 0);
    }

    #[tokio::test]
    async fn a_wait_that_is_broken_off_leaves_nothing() {
        let budget = Budget::new(TOTAL, 4, 1);
        let (mut first, mut second) = (budget.hold(0, &waits()), budget.hold(0, &waits()));
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
                            let (mut held, mut has) = (budget.hold(claim, &waits()), 0);
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
