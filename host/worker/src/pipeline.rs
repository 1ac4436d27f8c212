//! The journey of a task: delivery -> commit -> decode -> admit -> run -> outcome -> plan -> carry out -> settle.
//!
//! Decisions are made by pure functions ([`admit`](crate::admit::admit), [`plan`] and its neighbours); what
//! is left is the order of things. Three kinds of trouble never mix: a guest that fails is an
//! [`Outcome`](petiole_celery::Outcome), a message that is not run is a
//! [`Refusal`](petiole_celery::Refusal), and a fault of the host ([`Fault`]) is the only one that leaves a
//! delivery unsettled, so that the broker delivers it again.

mod arrive;
mod call;
mod endings;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use petiole_broker::{Delivery, Receipt};
use petiole_celery::plan::{Settle, Source, plan};
use petiole_celery::{Message, RunKey};
use petiole_runtime::{RunMemory, Taken, off_the_executor};
use tokio::sync::Semaphore;

use self::arrive::{Arrived, takes_long};
use self::call::Called;
use self::endings::RunEnd;
use crate::admit::{Admitted, Ready};
use crate::carry_out::{Fault, Servers};
use crate::catalog::registry::Registry;
use crate::causes::causes;
use crate::status::Status;
use crate::tell::metrics::TaskMetrics;
use crate::tell::report::Report;
use crate::tell::task_log;
use crate::turns::runs::{Runs, Turn};
use crate::turns::slot::Slot;

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
struct Journey<'a> {
    pipeline: &'a Pipeline,
    source: Source,
    redelivered: bool,
    receipt: Receipt,
    metrics: Arc<TaskMetrics>,
}

/// The end of a journey, when all but its settlement is done.
#[must_use]
struct End {
    settle: Settle,
    report: Option<Report>,
    /// For what its message is decoded to, and for what its task has returned: both are kept until it is settled.
    _room: Taken,
    _memory: Option<RunMemory>,
}

/// Why a journey has no end: its delivery is given back, and comes again.
#[derive(Debug, thiserror::Error)]
enum Left {
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

impl Pipeline {
    /// Takes one delivery to its settlement.
    pub(crate) async fn journey(&self, delivery: Delivery, mut slot: Slot) {
        let Delivery {
            mut message,
            source,
            redelivered,
            receipt,
        } = delivery;
        message.count_rejections(&source.queue);
        let Ok(task) = self.sought(&message, &receipt, &mut slot).await else {
            return receipt.give_back();
        };
        // A name counts only where a module has it: senders may write any.
        let name = task.as_ref().map(|task| task.name.as_str());
        let metrics = self.status.metrics.task(name, &source.queue);
        metrics.received();
        let journey = Journey {
            pipeline: self,
            source,
            redelivered,
            receipt,
            metrics,
        };
        match journey.travel(message, slot).await {
            Ok((end, turn)) => journey.settle(end, turn).await,
            Err(left) => journey.leave(&left),
        }
    }
}

impl<'a> Journey<'a> {
    /// Takes a message to its end. One that has a run waits until no other delivery of it is under way in this process,
    /// and is decoded only when no end of it is known: limits may have become lower since.
    async fn travel(
        &self,
        message: Message,
        mut slot: Slot,
    ) -> Result<(End, Option<Turn<'a>>), Left> {
        let Some(key) = RunKey::of(&message, &self.source.queue) else {
            drop(slot);
            return Ok((Box::pin(self.no_request(message)).await?, None));
        };
        let mut turn = self.have(self.pipeline.runs.turn(key), &mut slot).await?;
        let end = match self.earlier(&message, &mut turn).await? {
            Some(earlier) => Box::pin(self.end_as(earlier, message, &mut turn, slot)).await?,
            None => {
                let arrived = Box::pin(self.arrive(message, slot)).await?;
                self.take(arrived, &mut turn).await?
            }
        };
        Ok((end, Some(turn)))
    }

    /// Runs what is admitted.
    async fn take(&self, arrived: Arrived, turn: &mut Turn<'_>) -> Result<End, Left> {
        let Arrived {
            admitted,
            places,
            room,
        } = arrived;
        let end = match admitted {
            Admitted::Run(ready) => Box::pin(self.run(*ready, turn, places)).await?,
            Admitted::Not(not_run) => {
                drop(places);
                Box::pin(self.decline(not_run, turn)).await?
            }
        };
        Ok(end.within(room))
    }

    /// Runs a request, and what follows from it.
    async fn run<P>(&self, ready: Ready, turn: &mut Turn<'_>, places: P) -> Result<End, Left> {
        task_log::received(&ready.request);
        let task = Arc::clone(&ready.task);
        match self.call(ready, turn).await {
            Ok(called) => {
                task.awaits_host.store(false, Ordering::Relaxed);
                let followed = self.follow(called, turn, places).await;
                followed.inspect_err(|_| turn.not_carried_out())
            }
            Err((request, fault)) => {
                drop(places);
                self.not_run(request, task, fault, turn).await
            }
        }
    }

    /// Plans what follows from a run, and carries it out. Its places are given back as soon as there is room for that:
    /// storing and publishing need none, but while servers are away no more tasks are begun than their plans have room for.
    async fn follow<P>(&self, called: Called, turn: &mut Turn<'_>, places: P) -> Result<End, Left> {
        let Called {
            request,
            ran,
            run,
            mut memory,
        } = called;
        let long = run.long || takes_long(&request.message);
        let planning = self.planning(long).await?;
        let policy = &self.pipeline.servers.policy;
        let plan = off_the_executor(long, || {
            plan(&request, ran, &self.source, policy, Timestamp::now())
        });
        memory.is_planned();
        let room = self.room_after(&request, &plan).await?;
        drop((planning, places));
        // Where another worker may have it by now, its end is not in the way of that one's.
        turn.replaces &= !request.ignore_result || self.receipt.usable();
        let (settle, end) = Box::pin(self.carry_out(plan, &request, turn, room)).await?;
        let report = match end {
            RunEnd::Now(ended) => Report::Ran {
                request,
                ended,
                run,
            },
            RunEnd::Before(report) => report,
        };
        Ok(End {
            _memory: Some(memory),
            ..End::of(settle, report)
        })
    }

    /// Settles the delivery, last. Where that fails, the next delivery of its run is settled likewise, without a run and
    /// without a word: "done" is said after the ack, here and nowhere else.
    async fn settle(self, end: End, turn: Option<Turn<'_>>) {
        let settled = match end.settle {
            Settle::Ack => self.receipt.ack().await,
            Settle::Reject => self.receipt.reject().await,
        };
        if let Some(turn) = turn {
            match &settled {
                Ok(()) => turn.done(end.settle),
                Err(_) => turn.unacked(end.settle),
            }
        }
        if let Err(unsettled) = settled {
            self.metrics.fault();
            // The broker has told of the connection, once for all of its deliveries.
            tracing::debug!(target: "petiole", "a delivery was left unsettled and will come again: {unsettled}");
        }
        if let Some(report) = end.report {
            report.tell(&self.metrics);
        }
    }

    /// Gives the delivery back.
    fn leave(self, left: &Left) {
        let causes = causes(left);
        match left {
            Left::Gone | Left::Stopping | Left::NoModule | Left::NoRun => {
                tracing::debug!(target: "petiole", "a delivery was left unsettled and will come again: {causes}");
            }
            Left::Fault(_) => {
                self.metrics.fault();
                tracing::warn!(target: "petiole", "a delivery was left unsettled and will come again: {causes}");
            }
        }
        self.receipt.give_back();
    }
}

impl End {
    fn of(settle: Settle, report: Report) -> Self {
        Self {
            report: Some(report),
            ..Self::silent(settle)
        }
    }

    /// An end that was told of before.
    fn silent(settle: Settle) -> Self {
        Self {
            settle,
            report: None,
            _room: Taken::default(),
            _memory: None,
        }
    }

    /// Keeps the room that its message was decoded in.
    fn within(self, room: Taken) -> Self {
        Self {
            _room: room,
            ..self
        }
    }
}
