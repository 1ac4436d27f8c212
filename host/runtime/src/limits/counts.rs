//! Counts of what a call has used: calls, requests and bytes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use petiole_permits::{Limit, Limits};

use crate::limits::exceeded::LimitExceeded;

/// The bytes that a guest may ask of `wasi:random` at once: they are made without a pause, and others
/// wait meanwhile.
pub(crate) const RANDOM_AT_ONCE: u64 = 1024 * 1024;

/// The `fields` of HTTP that a guest may have at once: this many for each request that it may make (headers,
/// trailers, those of the response), and some more.
const FIELDS_PER_REQUEST: u64 = 4;
const MORE_FIELDS: u64 = 16;

/// They need no order among each other: each is right by itself.
#[derive(Debug)]
pub(crate) struct Counts {
    limits: Limits,
    host_calls: AtomicU64,
    random: AtomicU64,
    requests: AtomicU32,
    disk: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counts {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            host_calls: AtomicU64::new(0),
            random: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            disk: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Those that are over their limit without an error of their own.
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        within(Limit::HostCalls, self.limits.host_calls, self.host_calls())
    }

    /// Counts a call of an imported function. Too many of them end the task at its next tick.
    pub(crate) fn host_call(&self) {
        self.host_calls.fetch_add(1, Relaxed);
    }

    /// Counts bytes of `wasi:random` before they are made.
    pub(crate) fn random(&self, bytes: u64) -> Result<(), LimitExceeded> {
        within(Limit::Random, RANDOM_AT_ONCE, bytes)?;
        spend(Limit::Random, &self.random, self.limits.random, bytes)
    }

    /// Counts an outbound request or connection before it is made.
    pub(crate) fn request(&self) -> Result<(), LimitExceeded> {
        let made = self.requests.fetch_add(1, Relaxed).saturating_add(1);
        within(Limit::Requests, self.limits.requests.into(), made.into())
    }

    /// Checks the number of `fields` that the guest has, with the one that it makes.
    pub(crate) fn fields(&self, asked: u64) -> Result<(), LimitExceeded> {
        let requests = u64::from(self.limits.requests);
        let allowed = requests
            .saturating_mul(FIELDS_PER_REQUEST)
            .saturating_add(MORE_FIELDS);
        within(Limit::Handles, allowed, asked)
    }

    /// Counts bytes before they are written to a folder.
    pub(crate) fn disk(&self, bytes: u64) -> Result<(), LimitExceeded> {
        spend(Limit::Disk, &self.disk, self.limits.disk, bytes)
    }

    /// Counts bytes that came over the network, or from key-value storage.
    pub(crate) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes that went over the network, or to key-value storage.
    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn host_calls(&self) -> u64 {
        self.host_calls.load(Relaxed)
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Relaxed).min(self.limits.requests)
    }

    pub(crate) fn disk_written(&self) -> u64 {
        self.disk.load(Relaxed).min(self.limits.disk)
    }

    /// Received and sent.
    pub(crate) fn network(&self) -> (u64, u64) {
        (self.bytes_in.load(Relaxed), self.bytes_out.load(Relaxed))
    }
}

/// Adds to what was spent; what is over the limit is not granted, and counts as asked for.
fn spend(limit: Limit, spent: &AtomicU64, allowed: u64, more: u64) -> Result<(), LimitExceeded> {
    let add = |spent: u64| Some(spent.saturating_add(more));
    let before = match spent.fetch_update(Relaxed, Relaxed, add) {
        Ok(before) | Err(before) => before,
    };
    within(limit, allowed, before.saturating_add(more))
}

fn within(limit: Limit, allowed: u64, asked: u64) -> Result<(), LimitExceeded> {
    if asked <= allowed {
        return Ok(());
    }
    Err(LimitExceeded {
        limit,
        allowed,
        asked,
    })
}
