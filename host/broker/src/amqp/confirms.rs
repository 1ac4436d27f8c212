//! Which confirm answers which publication, returns included.
//!
//! RabbitMQ sends the `basic.return` of an unroutable message before its ack. Lapin 4.12 hands returned
//! messages first come, first served to whichever confirms arrive next, so a confirm may carry
//! another's return, and come without its own. Two facts make sense of it:
//!
//! 1. A confirm that carries nothing found lapin's queue of returns empty: the return of its message, if
//!    there was one, had gone to a confirm that was resolved before it.
//! 2. A confirm that carries another's return may have left its own in that queue; it comes with a later
//!    confirm, at the latest with the last of those in flight.
//!
//! So confirms are collected in passes over everything in flight. What was resolved before one that
//! a pass found is found by the next pass at the latest.

use std::collections::HashMap;

/// Fate of a publication whose confirm has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A queue has it.
    Taken,
    /// No queue is bound for it.
    Returned,
    /// The broker refused it.
    Nacked,
}

/// A confirm, with the key of the returned message it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Confirm<K> {
    Ack(Option<K>),
    Nack(Option<K>),
}

struct Entry<K, T> {
    key: K,
    publication: T,
    /// The pass that found its confirm.
    pass: u64,
    nacked: bool,
    /// Its confirm carried another's return.
    crossed: bool,
}

/// Confirms that have come, and returns not yet matched. Publications of equal key share their fate: the
/// key holds exchange and routing key.
pub(super) struct Confirms<K, T> {
    pass: u64,
    /// The last pass with a confirm that carried nothing.
    last_empty: u64,
    returned: HashMap<K, usize>,
    entries: Vec<Entry<K, T>>,
}

impl<K: Eq + std::hash::Hash + Clone, T> Confirms<K, T> {
    pub(super) fn new() -> Self {
        Self {
            pass: 1,
            last_empty: 0,
            returned: HashMap::new(),
            entries: Vec::new(),
        }
    }

    /// A confirm found by this pass.
    pub(super) fn found(&mut self, key: K, publication: T, confirm: Confirm<K>) {
        let (carried, nacked) = match confirm {
            Confirm::Ack(carried) => (carried, false),
            Confirm::Nack(carried) => (carried, true),
        };
        let crossed = carried.as_ref().is_some_and(|carried| *carried != key);
        match carried {
            Some(carried) => *self.returned.entry(carried).or_default() += 1,
            None => self.last_empty = self.pass,
        }
        self.entries.push(Entry {
            key,
            publication,
            pass: self.pass,
            nacked,
            crossed,
        });
    }

    /// Ends a pass: the publications whose fate is certain now. `in_flight` counts those without a
    /// confirm.
    pub(super) fn pass_done(&mut self, in_flight: usize) -> Vec<(T, Fate)> {
        let (mut certain, mut open) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.entries) {
            if entry.nacked {
                self.take_return(&entry.key);
                certain.push((entry.publication, Fate::Nacked));
            } else if self.take_return(&entry.key) {
                certain.push((entry.publication, Fate::Returned));
            } else if self.nothing_outstanding(&entry, in_flight) {
                certain.push((entry.publication, Fate::Taken));
            } else {
                open.push(entry);
            }
        }
        self.entries = open;
        self.pass += 1;
        certain
    }

    /// The channel is gone, and nothing more comes by it: what is certain of the confirms that had come.
    pub(super) fn channel_gone(&mut self) -> Vec<(T, Fate)> {
        // As if one more were in flight: the return of a crossed confirm may have been lost.
        self.pass_done(1)
            .into_iter()
            .chain(self.pass_done(1))
            .collect()
    }

    fn nothing_outstanding(&self, entry: &Entry<K, T>, in_flight: usize) -> bool {
        let seen_all_before = self.pass > entry.pass;
        // A confirm found two passes later was not yet resolved when the entry's was found.
        let emptied_since = self.last_empty >= entry.pass + 2;
        seen_all_before && (!entry.crossed || emptied_since || in_flight == 0)
    }

    fn take_return(&mut self, key: &K) -> bool {
        let Some(count) = self.returned.get_mut(key) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.returned.remove(key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Lapin's side: acks pop the queue of returns.
    #[derive(Default)]
    struct Lapin {
        returns: VecDeque<usize>,
        resolved: BTreeMap<usize, Confirm<usize>>,
    }

    impl Lapin {
        fn ack(&mut self, message: usize) {
            let carried = self.returns.pop_front();
            self.resolved.insert(message, Confirm::Ack(carried));
        }
    }

    /// Broker events of a run: each message's return (if it is unroutable) some time before its ack.
    fn events(routable: &[bool], picks: &[Index]) -> Vec<(usize, bool)> {
        let mut open: Vec<VecDeque<(usize, bool)>> = routable
            .iter()
            .enumerate()
            .map(|(message, routable)| {
                let ack = (message, true);
                if *routable {
                    VecDeque::from([ack])
                } else {
                    VecDeque::from([(message, false), ack])
                }
            })
            .collect();
        let mut events = Vec::new();
        for pick in picks.iter().cycle() {
            open.retain(|left| !left.is_empty());
            if open.is_empty() {
                break;
            }
            let index = pick.index(open.len());
            events.push(open[index].pop_front().unwrap());
        }
        events
    }

    proptest! {
        #[test]
        fn every_publication_gets_its_own_answer(
            routable in prop::collection::vec(any::<bool>(), 1..30),
            picks in prop::collection::vec(any::<Index>(), 8..64),
            steps in prop::collection::vec(0..4_usize, 8..64),
        ) {
            let mut lapin = Lapin::default();
            let mut events = events(&routable, &picks).into_iter();
            let mut steps = steps.iter().cycle();
            let mut flying: Vec<usize> = (0..routable.len()).collect();
            let mut confirms = Confirms::new();
            let mut fates = BTreeMap::new();
            let mut passes = 0;
            while !flying.is_empty() || !confirms.entries.is_empty() {
                // A pass looks at one publication after another, while the broker goes on.
                let mut still = Vec::new();
                for message in flying {
                    for _ in 0..*steps.next().unwrap() {
                        match events.next() {
                            Some((message, true)) => lapin.ack(message),
                            Some((message, false)) => lapin.returns.push_back(message),
                            None => {}
                        }
                    }
                    match lapin.resolved.remove(&message) {
                        Some(confirm) => confirms.found(message, message, confirm),
                        None => still.push(message),
                    }
                }
                flying = still;
                fates.extend(confirms.pass_done(flying.len()));
                passes += 1;
                prop_assert!(passes < 10_000, "never answered");
            }
            let want: BTreeMap<usize, Fate> = routable
                .iter()
                .map(|routable| if *routable { Fate::Taken } else { Fate::Returned })
                .enumerate()
                .collect();
            prop_assert_eq!(fates, want);
            prop_assert!(confirms.returned.is_empty());
        }
    }

    #[test]
    fn what_was_confirmed_before_the_channel_went_is_known() {
        let mut confirms = Confirms::new();
        confirms.found(1, 'a', Confirm::Ack(None));
        confirms.found(2, 'b', Confirm::Ack(Some(2)));
        confirms.found(3, 'c', Confirm::Ack(Some(4)));
        let mut known = confirms.channel_gone();
        known.sort_by_key(|(publication, _)| *publication);
        assert_eq!(known, [('a', Fate::Taken), ('b', Fate::Returned)]);
    }

    #[test]
    fn a_nack_is_a_nack() {
        let mut confirms = Confirms::new();
        confirms.found(1, 'a', Confirm::Nack(None));
        assert_eq!(confirms.pass_done(0), [('a', Fate::Nacked)]);
        assert!(confirms.entries.is_empty());
    }
}
