//! Deliveries that there is room for, and the memory held for those on their way through lapin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::memory::{Held, Share};

/// The channels of a connection that deliver. A clone is the same.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Channels(Arc<Mutex<HashMap<u16, Weak<Passed>>>>);

impl Channels {
    /// A channel that is about to deliver: what passes counts with this consumer's. If the answer is dropped, nothing
    /// passes any more, and what did not arrive is given back.
    pub(in super::super) fn open(&self, channel: u16, share: &Arc<Share>) -> Arc<Passed> {
        let passed = Arc::new(Passed {
            share: Arc::clone(share),
            held: Mutex::default(),
        });
        self.lock().insert(channel, Arc::downgrade(&passed));
        passed
    }

    /// Decides if a delivery of `bytes` bytes may pass; then they are held until it arrives.
    pub(super) fn pass(&self, channel: u16, tag: u64, bytes: u64) -> bool {
        let passed = self.lock().get(&channel).and_then(Weak::upgrade);
        passed.is_some_and(|passed| passed.pass(tag, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Weak<Passed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deliveries of one channel that have passed the guard and did not arrive yet, by their tags.
#[derive(Debug)]
pub(in super::super) struct Passed {
    share: Arc<Share>,
    held: Mutex<HashMap<u64, Held>>,
}

impl Passed {
    pub(in super::super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    fn pass(&self, tag: u64, bytes: u64) -> bool {
        let held = self.share.hold(bytes);
        let passes = held.is_some();
        if let Some(held) = held {
            self.lock().insert(tag, held);
        }
        passes
    }

    /// Hands over the bytes held for a delivery that has arrived.
    pub(in super::super) fn arrived(&self, tag: u64) -> Option<Held> {
        self.lock().remove(&tag)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
