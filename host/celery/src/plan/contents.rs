//! A plan's contents: results, messages, the settlement, and what they make of the task.

use crate::message::memory;
use crate::{Exception, Publication, TaskMeta};

/// Bytes that are quoted of an exception whose place another one takes.
pub(super) const QUOTED: usize = 1024;

/// Steps to take for a delivery, in this order: store, publish and await the confirms, settle.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Stored first, in this order: the task's own result, then, where it failed, those of the rest
    /// of its chain, which can't run any more.
    pub results: Vec<TaskMeta>,
    /// Published next; all are confirmed before the delivery is settled.
    pub publications: Vec<Publication>,
    /// Done last.
    pub settle: Settle,
    /// The end that this makes of the task, for logs and metrics.
    pub ended: Ended,
}

impl Plan {
    /// Copies in memory at once of what a plan holds, at most: itself, in the run's record, in the command that stores
    /// this, and as that is written to its connection.
    pub const COPIES: usize = 4;

    /// Approximate bytes that its messages and results take until they are out, with all copies.
    pub fn memory(&self) -> usize {
        let messages = memory(&self.publications);
        let results = self.results.iter().map(TaskMeta::memory).sum::<usize>();
        messages
            .saturating_add(results)
            .saturating_mul(Self::COPIES)
    }

    /// Keeps only the end of its delivery and of its task.
    pub fn into_end(self) -> (Settle, Ended) {
        (self.settle, self.ended)
    }

    /// True if it sends its own task, to run again or later.
    pub fn sends_itself(&self) -> bool {
        match self.ended {
            Ended::Retry { .. } | Ended::Requeued { .. } | Ended::Postponed => true,
            Ended::Success
            | Ended::Failure { .. }
            | Ended::Rejected { .. }
            | Ended::Ignored
            | Ended::Revoked => false,
        }
    }
}

/// The end that a plan makes of its task. Not always the run's outcome: a success that can't be followed by its
/// callbacks is a failure.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It succeeded, with the value that its run returned.
    Success,
    /// It failed, or is refused.
    Failure {
        /// The exception that Python raises from `get()`.
        exception: Exception,
        /// The guest's stack, where there is one.
        traceback: Option<String>,
    },
    /// It runs again.
    Retry {
        /// The reason.
        exception: Exception,
    },
    /// Its message is back in its queue.
    Requeued {
        /// The reason the task gave.
        reason: String,
    },
    /// Its message is rejected for good, which may be because it has been given back too often. Stored as
    /// FAILURE.
    Rejected {
        /// The reason the task gave.
        reason: String,
    },
    /// It wants no result.
    Ignored,
    /// It had expired.
    Revoked,
    /// It is not due yet, and waits in the broker.
    Postponed,
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// `basic.ack`.
    Ack,
    /// `basic.reject`, dead-lettered where the queue has a dead-letter exchange.
    Reject,
}
