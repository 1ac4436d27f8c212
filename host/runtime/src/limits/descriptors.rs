//! The process's file descriptors, shared out among its slots: the guests together can't take those that the worker
//! needs.

use std::ops::RangeInclusive;

use rustix::process::{Resource, getrlimit};

/// Files, folders and streams that a call may have open: where the process has too few descriptors, what any program
/// needs, and where it has enough. All slots together have half of them.
const OPEN_FILES: RangeInclusive<usize> = 8..=256;
const PART_OF_FILES: u64 = 2;

/// Connections that a call may have at once, in the same way; all slots together have a quarter.
const CONNECTIONS: RangeInclusive<usize> = 4..=64;
const PART_OF_CONNECTIONS: u64 = 4;

/// One slot's share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) open_files: usize,
    pub(crate) connections: usize,
}

impl Descriptors {
    /// Of as many descriptors as the process may have.
    pub(crate) fn of_process(slots: u32) -> Self {
        let all = getrlimit(Resource::Nofile).current;
        Self::of(all.unwrap_or(u64::MAX), slots)
    }

    fn of(all: u64, slots: u32) -> Self {
        let share = |part, bounds: &RangeInclusive<usize>| {
            let share = all / part / u64::from(slots.max(1));
            let share = usize::try_from(share).unwrap_or(usize::MAX);
            share.clamp(*bounds.start(), *bounds.end())
        };
        Self {
            open_files: share(PART_OF_FILES, &OPEN_FILES),
            connections: share(PART_OF_CONNECTIONS, &CONNECTIONS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        for (descriptors, slots, open_files, connections) in [
            (u64::MAX, 1, 256, 64),
            (524_288, 1000, 256, 64),
            (4096, 32, 64, 32),
            (1024, 2, 256, 64),
            (1024, 8, 64, 32),
            (1024, 1000, 8, 4),
            (1024, 0, 256, 64),
        ] {
            let share = Descriptors {
                open_files,
                connections,
            };
            assert_eq!(Descriptors::of(descriptors, slots), share);
        }
    }
}
