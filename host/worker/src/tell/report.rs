//! The report of a delivery, in the log and by metrics, once it is settled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use petiole_celery::plan::Ended;
use petiole_celery::{Refusal, Request, Undecodable};
use petiole_runtime::HostFault;

use crate::catalog::registered::RegisteredTask;
use crate::tell::lines;
use crate::tell::metrics::TaskMetrics;
use crate::tell::run_report::RunReport;

/// The end of a delivery.
pub(crate) enum Report {
    /// Its task ran.
    Ran {
        request: Box<Request>,
        ended: Ended,
        run: RunReport,
    },
    /// An earlier delivery had ended the run; `sent` of its messages were sent now.
    EndedBefore {
        task: String,
        id: String,
        sent: usize,
    },
    /// It waits in the broker until its eta.
    Postponed {
        request: Box<Request>,
        until: Timestamp,
    },
    /// It could not be postponed, which was said when its plan was given up.
    NotPostponed,
    /// It waits in the broker for its module to be loaded.
    AwaitsModule {
        request: Box<Request>,
        until: Timestamp,
    },
    /// It waits in the broker for the host to be able to run it.
    AwaitsHost {
        request: Box<Request>,
        until: Timestamp,
        fault: HostFault,
        task: Arc<RegisteredTask>,
    },
    /// It waits in the broker for memory.
    AwaitsMemory {
        request: Box<Request>,
        until: Timestamp,
    },
    /// It was not run.
    Refused {
        request: Box<Request>,
        refusal: Refusal,
    },
    /// It was no request.
    Undecodable {
        message: Box<Undecodable>,
        queue: String,
    },
}

impl Report {
    pub(crate) fn tell(&self, metrics: &TaskMetrics) {
        match self {
            Self::Ran {
                request,
                ended,
                run,
            } => {
                metrics.ended(ended, run);
                lines::ended(request, ended, run);
            }
            Self::EndedBefore { task, id, sent } => lines::ended_before(task, id, *sent),
            Self::Postponed { request, until } => {
                metrics.postponed();
                lines::postponed(request, *until);
            }
            Self::NotPostponed => metrics.refused(&Refusal::NotCarriedOut {
                reason: String::new(),
            }),
            Self::AwaitsModule { request, until } => {
                metrics.postponed();
                lines::awaits_module(request, *until);
            }
            Self::AwaitsHost {
                request,
                until,
                fault,
                task,
            } => {
                metrics.postponed();
                metrics.fault();
                let is_new = !task.awaits_host.swap(true, Ordering::Relaxed);
                lines::awaits_host(request, *until, fault, is_new);
            }
            Self::AwaitsMemory { request, until } => {
                metrics.postponed();
                lines::awaits_memory(request, *until);
            }
            Self::Refused { request, refusal } => {
                metrics.refused(refusal);
                lines::refused(request, refusal);
            }
            Self::Undecodable { message, queue } => {
                metrics.refused(&message.refusal);
                lines::undecodable(message, queue);
            }
        }
    }
}
