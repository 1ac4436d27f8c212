//! The number of a guest's files: those that it has open, lists and has made.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Files, folders and links that a call may make.
const MAX_MADE: usize = 10_000;
/// Entries of folders that a call may be listing: they are in the host's memory until the guest drops the list.
const MAX_LISTED: usize = 50_000;

/// One of the files and streams that a call may have open. It counts for as long as this lives.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_of(allowed: usize, count: &Arc<AtomicUsize>) -> Option<Self> {
        if count.load(Relaxed) >= allowed {
            return None;
        }
        // only the guest's own calls, one after the other, open anything
        count.fetch_add(1, Relaxed);
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// An open file or folder.
struct Opened {
    /// The number of the root that it is in.
    root: usize,
    /// None for a root itself, which is open anyway.
    _open: Option<Open>,
}

/// Files and folders of one call.
pub(super) struct Tally {
    /// By their handles.
    opened: HashMap<u32, Opened>,
    /// The number of entries in each listing, by their handles.
    listings: HashMap<u32, usize>,
    listed: usize,
    made: usize,
    open: Arc<AtomicUsize>,
    allowed: usize,
}

impl Tally {
    /// Of a call that may have `allowed` files, folders and streams open.
    pub(super) fn new(allowed: usize) -> Self {
        Self {
            opened: HashMap::new(),
            listings: HashMap::new(),
            listed: 0,
            made: 0,
            open: Arc::default(),
            allowed,
        }
    }

    /// One more file or stream that is open; none where there are as many as may be.
    pub(super) fn open_one(&self) -> Option<Open> {
        Open::one_of(self.allowed, &self.open)
    }

    /// Enters a descriptor, of the root of that number. `open`: none for the root itself.
    pub(super) fn opened(&mut self, descriptor: u32, root: usize, open: Option<Open>) {
        let opened = Opened { root, _open: open };
        self.opened.insert(descriptor, opened);
    }

    /// The number of the root that a descriptor is in.
    pub(super) fn root(&self, descriptor: u32) -> Option<usize> {
        self.opened.get(&descriptor).map(|opened| opened.root)
    }

    pub(super) fn closed(&mut self, descriptor: u32) {
        self.opened.remove(&descriptor);
    }

    pub(super) fn may_make(&self) -> bool {
        self.made < MAX_MADE
    }

    pub(super) fn made(&mut self) {
        self.made = self.made.saturating_add(1);
    }

    /// The entries that may be listed beside those of other listings.
    pub(super) fn room_for_listing(&self) -> usize {
        MAX_LISTED.saturating_sub(self.listed)
    }

    pub(super) fn listing(&mut self, listing: u32, entries: usize) {
        self.listings.insert(listing, entries);
        self.listed = self.listed.saturating_add(entries);
    }

    pub(super) fn listed(&mut self, listing: u32) {
        let entries = self.listings.remove(&listing).unwrap_or_default();
        self.listed = self.listed.saturating_sub(entries);
    }
}
