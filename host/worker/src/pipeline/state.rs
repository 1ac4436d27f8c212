//! The state of a journey: what all share, what is known all along, and how it ends.

use std::sync::Arc;

use petiole_broker::Receipt;
use petiole_celery::plan::{Settle, Source};
use petiole_runtime::{RunMemory, Taken};
use tokio::sync::Semaphore;

use crate::carry_out::{Fault, Servers};
use crate::catalog::registry::Registry;
use crate::status::Status;
use crate::tell::metrics::TaskMetrics;
use crate::tell::report::Report;
use crate::turns::runs::Runs;

/// Everything that the journeys of a worker share.
pub(crate) struct Pipeline {
    pub(crate) servers: Servers,
    pub(crate) registry: Arc<Registry>,
    /// After how many lost deliveries a message is not run any more.
    pub(crate) delivery_limit: u64,
    pub(crate) status: Arc<Status>,
    pub(crate) runs: Runs,
    /// Large plans that are made at once.
    pub(crate) planning: Semaphore,
}

/// A delivery's way, and what is known of it all along.
pub(super) struct Journey<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) source: Source,
    pub(super) redelivered: bool,
    pub(super) receipt: Receipt,
    pub(super) metrics: Arc<TaskMetrics>,
}

/// The end of a journey, when all but its settlement is done.
#[must_use]
pub(super) struct End {
    pub(super) settle: Settle,
    /// False for a message that is no request: another delivery of its id may be one.
    pub(super) ends_run: bool,
    pub(super) report: Option<Report>,
    /// For what its message is decoded to, and for what its task has returned: both are kept until it is settled.
    pub(super) _room: Taken,
    pub(super) _memory: Option<RunMemory>,
}

/// The reason why a journey has no end: its delivery is given back, and comes again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error("its connection is gone")]
    Gone,
    #[error("the worker is told to stop")]
    Stopping,
    #[error("its module is not loaded, and it can't wait in the broker")]
    NoModule,
    #[error("it is a request, and its run has no key")]
    NoRun,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl End {
    pub(super) fn of(settle: Settle, report: Report) -> Self {
        Self {
            report: Some(report),
            ..Self::silent(settle)
        }
    }

    /// An end that was reported before.
    pub(super) fn silent(settle: Settle) -> Self {
        Self {
            settle,
            ends_run: true,
            report: None,
            _room: Taken::default(),
            _memory: None,
        }
    }

    /// Keeps the room that its message was decoded in.
    pub(super) fn within(self, room: Taken) -> Self {
        Self {
            _room: room,
            ..self
        }
    }
}
