//! Shares of runs in a budget, and runs that wait for more: pure.

use std::collections::BTreeMap;

use crate::limits::budget::order::Order;

/// Tells the runs of a budget apart; a later one is larger.
pub(super) type Age = u64;

/// The end of a run's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    GivenUp,
}

#[derive(Debug)]
pub(super) struct Ledger {
    total: usize,
    used: usize,
    peak: usize,
    next: Age,
    runs: BTreeMap<Age, Share>,
}

#[derive(Debug, Default)]
struct Share {
    has: usize,
    /// The most that it will have.
    claim: usize,
    /// Bytes that it waits for.
    wants: Option<usize>,
}

impl Ledger {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            used: 0,
            peak: 0,
            next: 0,
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The most that was ever used.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    pub(super) fn waiting(&self) -> usize {
        self.runs.values().filter(|run| run.wants.is_some()).count()
    }

    /// A run that has nothing yet.
    pub(super) fn open(&mut self) -> Age {
        let age = self.next;
        self.next = self.next.saturating_add(1);
        self.runs.insert(age, Share::default());
        age
    }

    /// Grants what is asked for, or has the run wait: [`settle`](Self::settle) tells when that is over. `claim`: the most
    /// that the run will have.
    pub(super) fn ask(&mut self, age: Age, bytes: usize, claim: usize) -> bool {
        let older = self.runs.range(..age).any(|(_, run)| run.wants.is_some());
        if let Some(run) = self.runs.get_mut(&age) {
            let claim = claim.min(self.total).max(run.has.saturating_add(bytes));
            run.claim = run.claim.max(claim);
        }
        let granted = self.may_have(age, bytes, older, self.order().as_ref());
        if granted {
            self.give(age, bytes);
        }
        if let Some(run) = self.runs.get_mut(&age).filter(|_| !granted) {
            run.wants = Some(bytes);
        }
        granted
    }

    pub(super) fn release(&mut self, age: Age, bytes: usize) {
        if let Some(run) = self.runs.get_mut(&age) {
            let bytes = bytes.min(run.has);
            run.has -= bytes;
            self.used -= bytes;
        }
    }

    /// The run waits no more; what it was not granted it does not get.
    pub(super) fn withdraw(&mut self, age: Age) {
        if let Some(run) = self.runs.get_mut(&age) {
            run.wants = None;
        }
    }

    pub(super) fn close(&mut self, age: Age) {
        if let Some(run) = self.runs.remove(&age) {
            self.used -= run.has;
        }
    }

    /// Ends of waits after a change, the oldest run's first. It takes as long as to sort the runs, once and
    /// again for each that gets something: there may be some thousand.
    pub(super) fn settle(&mut self) -> Vec<(Age, Answer)> {
        let wants = |(age, run): (&Age, &Share)| Some((*age, run.wants?));
        let waiting: Vec<_> = self.runs.iter().filter_map(wants).collect();
        let mut answers = Vec::new();
        let (mut older, mut order) = (false, self.order());
        for (age, bytes) in waiting {
            if self.may_have(age, bytes, older, order.as_ref()) {
                self.give(age, bytes);
                self.withdraw(age);
                answers.push((age, Answer::Granted));
                order = self.order();
            } else {
                older = true;
            }
        }
        if answers.is_empty() {
            answers.extend(self.give_up().map(|age| (age, Answer::GivenUp)));
        }
        answers
    }

    /// True if there is as much, and all that have something can still have all of their claim, one after the other. So
    /// they wait for one another, and not for ever. A run that has nothing does not begin while an `older` one waits, which
    /// gets its turn so.
    fn may_have(&self, age: Age, bytes: usize, older: bool, order: Option<&Order>) -> bool {
        let Some((run, order)) = self.runs.get(&age).zip(order) else {
            return false;
        };
        let needs = run.claim.saturating_sub(run.has);
        !(older && run.has == 0) && order.allows(needs, bytes)
    }

    fn give(&mut self, age: Age, bytes: usize) {
        if let Some(run) = self.runs.get_mut(&age) {
            run.has = run.has.saturating_add(bytes);
            self.used = self.used.saturating_add(bytes);
            self.peak = self.peak.max(self.used);
        }
    }

    /// To be made anew after each change.
    fn order(&self) -> Option<Order> {
        let runs = self.runs.values().filter(|run| run.has > 0);
        let runs = runs.map(|run| (run.claim.saturating_sub(run.has), run.has));
        Order::new(self.total.saturating_sub(self.used), runs)
    }

    /// The youngest run that waits, where all wait that have something: one of them has more than it claimed, and nobody
    /// would ever give anything back. The oldest gets on, unless it asks for more than there is in all.
    fn give_up(&mut self) -> Option<Age> {
        let has = |run: &Share| run.has > 0;
        let works = |run: &Share| has(run) && run.wants.is_none();
        if self.runs.values().any(works) {
            return None;
        }
        let waits = |(age, run): (&Age, &Share)| run.wants.map(|_| *age);
        let oldest = self.runs.iter().find_map(waits)?;
        let mut youngest_first = self.runs.iter().rev();
        let other = youngest_first.find(|(age, run)| **age != oldest && has(run));
        let age = other.map_or(oldest, |(age, _)| *age);
        self.withdraw(age);
        Some(age)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_have_their_claims_one_after_the_other() {
        let mut ledger = Ledger::new(10);
        let [a, b, c] = [(); 3].map(|()| ledger.open());
        assert!(ledger.ask(a, 4, 8));
        assert!(!ledger.ask(b, 3, 8), "then neither could have 8");
        assert_eq!(ledger.settle(), [], "the first is at work");
        assert!(
            !ledger.ask(c, 1, 1),
            "there is room, and an older one waits"
        );
        assert!(ledger.ask(a, 4, 8));
        ledger.close(a);
        assert_eq!(
            ledger.settle(),
            [(b, Answer::Granted), (c, Answer::Granted)]
        );
        assert!(ledger.ask(b, 5, 8));
        assert_eq!((ledger.used(), ledger.peak()), (9, 9));
    }

    #[test]
    fn who_begins_waits_for_its_turn() {
        let mut ledger = Ledger::new(10);
        let [a, b, c] = [(); 3].map(|()| ledger.open());
        assert!(ledger.ask(b, 8, 8));
        assert!(!ledger.ask(a, 3, 3));
        assert!(!ledger.ask(c, 1, 1));
        ledger.withdraw(a);
        assert_eq!(ledger.settle(), [(c, Answer::Granted)]);
    }

    #[test]
    fn where_more_is_asked_than_was_claimed_the_youngest_is_given_up() {
        let mut ledger = Ledger::new(10);
        let [a, b] = [(); 2].map(|()| ledger.open());
        assert!(ledger.ask(a, 5, 5) && ledger.ask(b, 5, 5));
        assert!(!ledger.ask(b, 1, 5));
        assert_eq!(ledger.settle(), []);
        assert!(!ledger.ask(a, 1, 5));
        assert_eq!(ledger.settle(), [(b, Answer::GivenUp)]);
        assert_eq!(ledger.settle(), [], "it has not gone yet");
        ledger.close(b);
        assert_eq!(ledger.settle(), [(a, Answer::Granted)]);
        assert!(!ledger.ask(a, 11, 5));
        assert_eq!(ledger.settle(), [(a, Answer::GivenUp)], "it never fits");
    }

    /// A run's next step, where it may take it: it asks only while it does not wait, and goes when it was given up.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask(usize),
        Release(usize),
        Withdraw,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..40usize).prop_map(Step::Ask),
            1 => (1..40usize).prop_map(Step::Release),
            1 => Just(Step::Withdraw),
            1 => Just(Step::Close),
        ]
    }

    const TOTAL: usize = 100;
    const RUNS: usize = 8;

    /// A run as it knows itself.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Run {
        age: Age,
        claim: usize,
        has: usize,
        wants: Option<usize>,
        given_up: bool,
    }

    fn settle(ledger: &mut Ledger, runs: &mut [Run]) {
        for (age, answer) in ledger.settle() {
            let run = runs.iter_mut().find(|run| run.age == age).unwrap();
            let wanted = run.wants.take().unwrap();
            match answer {
                Answer::Granted => run.has += wanted,
                Answer::GivenUp => run.given_up = true,
            }
        }
    }

    proptest! {
        /// The sum is right and never over the budget, and somebody can always go on. Where no run asks for more than it
        /// claimed, none is given up.
        #[test]
        fn runs_share_a_budget(
            honest in any::<bool>(),
            claims in prop::array::uniform8(1..=TOTAL),
            steps in prop::collection::vec((0..RUNS, step()), 1..200),
        ) {
            let mut ledger = Ledger::new(TOTAL);
            let mut runs: Vec<Run> = Vec::new();
            for (index, step) in steps {
                if runs.len() <= index {
                    let (age, claim) = (ledger.open(), claims[runs.len()]);
                    runs.push(Run { age, claim, has: 0, wants: None, given_up: false });
                }
                let index = index.min(runs.len() - 1);
                let run = &mut runs[index];
                let most = if honest { run.claim } else { TOTAL };
                match step {
                    Step::Ask(bytes) if run.wants.is_none() && !run.given_up && run.has + bytes <= most => {
                        match ledger.ask(run.age, bytes, run.claim) {
                            true => run.has += bytes,
                            false => run.wants = Some(bytes),
                        }
                    }
                    Step::Release(bytes) if run.wants.is_none() => {
                        ledger.release(run.age, bytes);
                        run.has = run.has.saturating_sub(bytes);
                    }
                    Step::Withdraw => {
                        ledger.withdraw(run.age);
                        run.wants = None;
                    }
                    Step::Close => {
                        ledger.close(run.age);
                        runs.remove(index);
                    }
                    Step::Ask(_) | Step::Release(_) => {}
                }
                settle(&mut ledger, &mut runs);
                let used: usize = runs.iter().map(|run| run.has).sum();
                prop_assert_eq!(ledger.used(), used);
                prop_assert!(ledger.peak() <= TOTAL);
                prop_assert!(!honest || !runs.iter().any(|run| run.given_up), "{:?}", runs);
                let stuck = runs.iter().all(|run| run.wants.is_some() || run.has == 0);
                prop_assert!(!stuck || runs.iter().all(|run| run.wants.is_none()), "{:?}", runs);
            }
            // whoever is not waiting goes at last: then so does everybody
            while let Some(index) = runs.iter().position(|run| run.wants.is_none()) {
                ledger.close(runs.remove(index).age);
                settle(&mut ledger, &mut runs);
            }
            prop_assert_eq!(runs, []);
            prop_assert_eq!(ledger.used(), 0);
        }
    }
}
