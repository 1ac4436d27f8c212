//! Reports of calls.

use std::time::Duration;

use petiole_celery::{Outcome, Signature};
use petiole_permits::Limit;

use crate::limits::budget::held::Held;
use crate::limits::budget::reading::Reading;
use crate::limits::meter::Meter;

/// A call that was made.
#[derive(Debug)]
pub struct Run {
    /// The task's outcome.
    pub outcome: Outcome,
    /// The signatures it sent, with their ids in `options.task_id`.
    pub sent: Vec<Signature>,
    /// Time, memory and all else that it used.
    pub usage: Usage,
    /// The limit that ended it.
    pub limit: Option<Limit>,
    /// Its values take long to read.
    pub long: bool,
    /// Of the budget of all tasks, for what is here: keep it as long as that.
    pub memory: RunMemory,
}

/// The part of the budget of all tasks that a call's values have, until this is dropped.
#[derive(Debug)]
pub struct RunMemory {
    sent: Option<Held>,
    _result: Reading,
}

impl RunMemory {
    pub(crate) fn new(sent: Held, result: Reading) -> Self {
        Self {
            sent: Some(sent),
            _result: result,
        }
    }

    /// The signatures that the task sent have become messages.
    pub fn is_planned(&mut self) {
        self.sent = None;
    }
}

/// Use of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Wall time of instantiate, call and clean-up.
    pub wall: Duration,
    /// Time on a CPU of instantiate and call; not that of host calls on threads for blocking ones.
    pub cpu: Duration,
    /// The largest sum of linear memories, in bytes.
    pub peak_memory: usize,
    /// Calls of imported functions.
    pub host_calls: u64,
    /// Written to log, stdout and stderr, in bytes.
    pub log: usize,
    /// Received over the network and from key-value storage, in bytes.
    pub bytes_in: u64,
    /// Sent over the network and to key-value storage, in bytes.
    pub bytes_out: u64,
    /// Outbound HTTP requests and TCP connections.
    pub requests: u32,
    /// Written to folders, in bytes.
    pub disk: u64,
    /// Signatures sent, with those that are nested in them.
    pub children: usize,
}

impl Usage {
    /// Adds the meter's numbers.
    pub(crate) fn add(&mut self, meter: &Meter) {
        let (bytes_in, bytes_out) = meter.counts.network();
        *self = Self {
            wall: meter.wall(),
            cpu: meter.cpu(),
            host_calls: meter.counts.host_calls(),
            bytes_in,
            bytes_out,
            requests: meter.counts.requests(),
            disk: meter.counts.disk_written(),
            ..*self
        };
    }
}

/// The worker could not run the task: no fault of the guest, nor of the message. Its delivery stays
/// unsettled.
#[derive(Debug, thiserror::Error)]
pub enum HostFault {
    /// More calls at once than the pool has slots: a bug in the caller.
    #[error("no free sandbox: {reason}")]
    PoolExhausted {
        /// wasmtime's words.
        reason: String,
    },
    /// Others have the memory that the task may have: it was given up, and is to be run again later.
    #[error("{reason}")]
    NoMemoryLeft {
        /// The size of the budget and of the request, or the time that it has waited.
        reason: String,
    },
    /// wasmtime or the operating system failed.
    #[error("the sandbox failed: {reason}")]
    Internal {
        /// The chain of causes.
        reason: String,
    },
}
