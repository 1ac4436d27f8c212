//! Memory for messages that were delivered and are not settled yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The part of the memory that only small messages have, an eighth: so large ones of one queue keep nobody waiting for
/// small ones of another.
const OF_SMALL: u64 = 8;
/// The part of the memory up to which a message is small.
const SMALL: u64 = 256;

/// Bytes for the messages of all consumers of a broker.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    /// By messages that have room: never more than the limit.
    used: AtomicU64,
    /// By those beyond it: one for each consumer at most.
    beyond: AtomicU64,
    given_back: Notify,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: u64::try_from(bytes).unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            given_back: Notify::new(),
        })
    }

    /// Bytes of all messages that are held.
    pub(crate) fn held(&self) -> u64 {
        let used = self.used.load(Ordering::Relaxed);
        used.saturating_add(self.beyond.load(Ordering::Relaxed))
    }

    /// Number of further messages of this size that there is room for.
    pub(crate) fn fit(&self, bytes: u64) -> u64 {
        let free = self
            .most(bytes)
            .saturating_sub(self.used.load(Ordering::SeqCst));
        free / bytes.max(1)
    }

    /// Ends when something was given back after this call.
    pub(crate) fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }

    /// Limit of the bytes in use, for taking a message of this size.
    fn most(&self, bytes: u64) -> u64 {
        if bytes <= self.limit / SMALL {
            self.limit
        } else {
            self.limit - self.limit / OF_SMALL
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let most = self.most(bytes);
        let with = |used: u64| used.checked_add(bytes).filter(|used| *used <= most);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, with)
            .is_ok()
    }
}

/// One consumer's share of a [`Memory`], and one message beyond it: so none ever stands still for what others hold, and
/// a message that is larger than all of it goes alone.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) memory: Arc<Memory>,
    /// True while there is a message beyond it.
    beyond: AtomicBool,
}

impl Share {
    pub(crate) fn new(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::clone(memory),
            beyond: AtomicBool::new(false),
        })
    }

    /// True if any message may be held.
    pub(crate) fn takes_any(&self) -> bool {
        !self.beyond.load(Ordering::SeqCst)
    }

    /// Holds a message of this size, if there is room.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let beyond = !self.memory.take(bytes);
        if beyond {
            if self.beyond.swap(true, Ordering::SeqCst) {
                return None;
            }
            self.memory.beyond.fetch_add(bytes, Ordering::Relaxed);
        }
        Some(Held {
            share: Arc::clone(self),
            bytes,
            beyond,
        })
    }
}

/// A message that is held. Its bytes go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
    beyond: bool,
}

impl Held {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let memory = &self.share.memory;
        if self.beyond {
            memory.beyond.fetch_sub(self.bytes, Ordering::Relaxed);
            self.share.beyond.store(false, Ordering::SeqCst);
        } else {
            memory.used.fetch_sub(self.bytes, Ordering::SeqCst);
        }
        memory.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_messages_have_room_beside_large_ones() {
        let memory = Memory::new(1024);
        let (large, small) = (Share::new(&memory), Share::new(&memory));
        let held: Vec<Held> = (0..9).filter_map(|_| large.hold(128)).collect();
        assert_eq!(held.len(), 8, "seven eighths, and one beyond them");
        assert_eq!((memory.held(), large.takes_any()), (1024, false));
        let beside: Vec<Held> = (0..40).filter_map(|_| small.hold(4)).collect();
        assert_eq!(beside.len(), 33);
        assert!(large.hold(4).is_none(), "each consumer has its own");
    }

    #[test]
    fn a_message_larger_than_the_room_goes_alone() {
        let memory = Memory::new(0);
        let share = Share::new(&memory);
        for bytes in [1, u64::MAX] {
            let held = share.hold(bytes).unwrap();
            assert!(share.hold(1).is_none());
            assert_eq!(memory.held(), bytes);
            drop(held);
        }
        assert_eq!(memory.held(), 0);
    }

    proptest! {
        /// Whatever comes and goes: the limit, and one message for each consumer. Nothing is lost, and nothing is given
        /// back twice.
        #[test]
        fn what_is_held_is_bounded_and_goes_back(
            steps in prop::collection::vec((0..3_usize, prop_oneof![0..600_u64, 0..4000_u64, Just(u64::MAX)], any::<bool>()), 1..200),
        ) {
            const LIMIT: u64 = 2048;
            let memory = Memory::new(2048);
            let shares = [0; 3].map(|_| Share::new(&memory));
            let mut held: Vec<Held> = Vec::new();
            for (index, bytes, gives_back) in steps {
                if gives_back && !held.is_empty() {
                    held.swap_remove(index % held.len());
                } else {
                    let before = memory.fit(bytes);
                    let taken = shares[index].hold(bytes);
                    prop_assert!(taken.is_some() || before == 0);
                    held.extend(taken);
                }
                let (beyond, within): (Vec<&Held>, Vec<&Held>) = held.iter().partition(|held| held.beyond);
                let within: u64 = within.iter().map(|held| held.bytes).sum();
                prop_assert!(within <= LIMIT);
                prop_assert_eq!(within, memory.used.load(Ordering::SeqCst));
                for share in &shares {
                    let of_share = beyond.iter().filter(|held| Arc::ptr_eq(&held.share, share)).count();
                    prop_assert_eq!(of_share, usize::from(!share.takes_any()));
                }
            }
            held.clear();
            prop_assert_eq!(memory.held(), 0);
            prop_assert!(shares.iter().all(|share| share.takes_any()));
        }
    }
}
