//! The journey of a task: delivery -> commit -> decode -> admit -> run -> outcome -> plan -> carry out -> settle.
//!
//! Decisions are made by pure functions ([`admit`](crate::admit::admit), [`plan`] and its neighbours); what
//! is left is the order of things. Three kinds of trouble never mix: a guest that fails is an
//! [`Outcome`](petiole_celery::Outcome), a message that is not run is a [`Refusal`](petiole_celery::Refusal), and a
//! fault of the host ([`Fault`](crate::carry_out::Fault)) is the only one that leaves a delivery unsettled, so that the
//! broker delivers it again.

mod arrive;
mod call;
mod endings;
mod state;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use petiole_broker::Delivery;
use petiole_celery::plan::{Settle, plan};
use petiole_celery::{Message, RunKey};
use petiole_runtime::off_the_executor;

use self::arrive::{Arrived, takes_long};
use self::call::Called;
use self::endings::RunEnd;
pub(crate) use self::state::Pipeline;
use self::state::{End, Journey, Left};
use crate::admit::{Admitted, Ready};
use crate::causes::causes;
use crate::tell::lines;
use crate::tell::report::Report;
use crate::turns::runs::Turn;
use crate::turns::slot::Slot;

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
        drop(task);
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
        lines::received(&ready.request);
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
        // If another worker may have it by now, this end must not be in the way of that one's.
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
    /// without a log line: "done" is logged after the ack, here and nowhere else.
    async fn settle(self, end: End, turn: Option<Turn<'_>>) {
        let settled = match end.settle {
            Settle::Ack => self.receipt.ack().await,
            Settle::Reject => self.receipt.reject().await,
        };
        if let Some(turn) = turn.filter(|_| end.ends_run) {
            match &settled {
                Ok(()) => turn.done(end.settle),
                Err(_) => turn.unacked(end.settle),
            }
        }
        if let Err(unsettled) = settled {
            self.metrics.fault();
            // The broker has logged the loss of the connection, once for all of its deliveries.
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
