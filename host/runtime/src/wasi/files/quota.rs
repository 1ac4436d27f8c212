//! Bytes that a call may write to a folder.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wasmtime_wasi::p2::{FsError, StreamError};

use crate::limits::exceeded::LimitExceeded;
use crate::limits::meter::Meter;

/// Counts what is written to a folder; a clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    meter: Arc<Meter>,
    /// The bytes left of the folder's own quota.
    left: Option<Arc<AtomicU64>>,
}

/// Nothing is written.
#[derive(Debug)]
pub(super) enum WriteRefused {
    /// At the call's limit, which ends the task.
    Limit(LimitExceeded),
    /// At the folder's own: the guest sees a disk that is full.
    Full(io::Error),
}

impl Quota {
    /// `bytes`: the folder's own, beside the limit of the call.
    pub(super) fn new(meter: &Arc<Meter>, bytes: Option<u64>) -> Self {
        Self {
            meter: Arc::clone(meter),
            left: bytes.map(|bytes| Arc::new(AtomicU64::new(bytes))),
        }
    }

    /// Counts bytes before they are written.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), WriteRefused> {
        if let Some(left) = &self.left {
            let take = |left: u64| left.checked_sub(bytes);
            left.fetch_update(Relaxed, Relaxed, take)
                .map_err(|_| WriteRefused::Full(rustix::io::Errno::NOSPC.into()))?;
        }
        self.meter.counts.disk(bytes).map_err(WriteRefused::Limit)
    }

    /// True if the folder's own has that much left.
    pub(super) fn has(&self, bytes: u64) -> bool {
        let left = self.left.as_ref();
        left.is_none_or(|left| left.load(Relaxed) >= bytes)
    }
}

impl From<WriteRefused> for FsError {
    fn from(refused: WriteRefused) -> Self {
        match refused {
            WriteRefused::Limit(exceeded) => Self::trap(exceeded),
            WriteRefused::Full(error) => error.into(),
        }
    }
}

impl From<WriteRefused> for StreamError {
    fn from(refused: WriteRefused) -> Self {
        match refused {
            WriteRefused::Limit(exceeded) => Self::Trap(exceeded.into()),
            WriteRefused::Full(error) => Self::LastOperationFailed(error.into()),
        }
    }
}
