//! One number that the memory of all runs of a process stays within, and its parts.

pub(crate) mod held;
mod ledger;
mod order;
pub(crate) mod reading;
pub(crate) mod room;
pub(crate) mod waits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::code::engine::table_memory;
use crate::limits::budget::ledger::{Age, Answer, Ledger};
use crate::limits::budget::reading::Reading;
use crate::limits::budget::room::Room;
use crate::limits::budget::waits::Waits;

/// The share of each slot, in bytes, which it has without asking: small tasks need no more, so they never wait.
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
pub struct Budget(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    total: usize,
    /// For runs, in bytes.
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

/// Use of a budget.
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
        Self(Arc::new(Parts {
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

    /// The part of such a budget for messages that were fetched, in bytes.
    pub fn of_messages(total: usize) -> usize {
        total / MESSAGES
    }

    /// The most that the memories of one run may have of such a budget, in bytes: its values, and tables of that many
    /// elements, have room beside them.
    pub fn most_of_run(total: usize, slots: u32, table_elements: usize) -> usize {
        let budget = Self::new(total, slots, 1);
        let most = budget.state().ledger.total();
        let values = budget.values().saturating_mul(2);
        most.saturating_sub(values)
            .saturating_sub(table_memory(table_elements))
    }

    /// The most that the values of one kind of a run may take, in bytes.
    pub(crate) fn values(&self) -> usize {
        self.0.runs / VALUES
    }

    /// The most that one run may read its result with, twice: the value, and beside it the JSON that is made of it.
    pub(crate) fn result(&self) -> usize {
        let all = self.values() / self.0.readers;
        // all that read at once have no more than there is
        all - all % reading::UNIT
    }

    /// Results that may be read at once: as many as there are processors.
    pub fn readers(&self) -> usize {
        self.0.readers
    }

    /// The room for what messages are decoded to. Whoever has some of it may wait for anything else of the budget,
    /// and nobody who has anything else of it waits for this.
    pub fn decoded(&self) -> &Room {
        &self.0.decoded
    }

    /// The most that one message may be decoded to, in bytes: half of what there is, or it would wait for all others.
    pub fn most_decoded(&self) -> usize {
        self.0.decoded.most() / 2
    }

    /// The room for the messages that follow from tasks, until they are out. Whoever has some of it waits for nothing
    /// else of the budget: tasks end whatever others wait for.
    pub fn plans(&self) -> &Room {
        &self.0.plans
    }

    /// Its use. The part for messages as they came, and for plans that are made, counts as used.
    pub fn usage(&self) -> BudgetUse {
        let ledger = &self.state().ledger;
        let Parts {
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

    /// Memory to read a result with that takes `bytes` at most.
    pub(crate) fn reading(&self, bytes: usize, waits: &Arc<Waits>) -> Reading {
        self.0.reading.reading(bytes, waits)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn many_slots_share_an_eighth() {
        let budget = Budget::new(64 * MIB, 1024, 1);
        assert_eq!(budget.0.of_slot, 5 * 1024);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, 0), 10 * MIB);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, 1 << 20), 2 * MIB);
        assert_eq!(Budget::most_of_run(64 * MIB, 1024, usize::MAX), 0);
    }
}
