//! In which order all runs can have their claims: Dijkstra's banker's algorithm, pure.

/// The runs that have something, whoever needs least first: where any order serves all of them, this one does.
#[derive(Debug)]
pub(super) struct Order {
    turns: Vec<Turn>,
    /// Free after the last of them.
    end: usize,
}

#[derive(Debug)]
struct Turn {
    /// Needed by the run beside what it has.
    needs: usize,
    /// Free when it has its turn.
    free: usize,
    /// Needed by no run until this one.
    spare: usize,
}

impl Order {
    /// `runs`: what each needs, and what it has. None where not all of them can be served.
    pub(super) fn new(free: usize, runs: impl Iterator<Item = (usize, usize)>) -> Option<Self> {
        let mut runs: Vec<_> = runs.collect();
        runs.sort_unstable();
        let (mut free, mut spare) = (free, usize::MAX);
        let mut turns = Vec::with_capacity(runs.len());
        for (needs, has) in runs {
            spare = spare.min(free.checked_sub(needs)?);
            turns.push(Turn { needs, free, spare });
            free = free.saturating_add(has);
        }
        Some(Self { turns, end: free })
    }

    /// True if all can still be served once a run has `bytes` of what it `needs`. Its turn comes sooner then, so
    /// that only those before it have less.
    pub(super) fn allows(&self, needs: usize, bytes: usize) -> bool {
        let left = needs.saturating_sub(bytes);
        let before = self.turns.partition_point(|turn| turn.needs < left);
        let last = before.checked_sub(1).and_then(|last| self.turns.get(last));
        let free = self.turns.get(before).map_or(self.end, |turn| turn.free);
        last.is_none_or(|turn| bytes <= turn.spare) && needs.max(bytes) <= free
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Serves whoever can be, until nobody is left.
    fn all_are_served(mut free: usize, mut runs: Vec<(usize, usize)>) -> bool {
        while let Some(next) = runs.iter().position(|(needs, _)| *needs <= free) {
            free += runs.swap_remove(next).1;
        }
        runs.is_empty()
    }

    proptest! {
        #[test]
        fn it_allows_what_leaves_all_to_be_served(
            free in 0..30_usize,
            runs in prop::collection::vec((0..30_usize, 1..20_usize), 1..8),
            new in any::<bool>(),
            bytes in 1..30_usize,
        ) {
            let order = Order::new(free, runs.iter().copied());
            prop_assert_eq!(order.is_some(), all_are_served(free, runs.clone()));
            let mut after = runs.clone();
            let (needs, has) = if new { (runs[0].0, 0) } else { after.swap_remove(0) };
            if needs >= bytes {
                after.push((needs - bytes, has + bytes));
                // A run that has nothing counts once it has something.
                let before = if new { runs } else { after.iter().copied().take(after.len() - 1).chain([(needs, has)]).collect() };
                let order = Order::new(free, before.into_iter());
                let allowed = order.is_some_and(|order| order.allows(needs, bytes));
                prop_assert_eq!(allowed, bytes <= free && all_are_served(free - bytes, after));
            }
        }
    }
}
