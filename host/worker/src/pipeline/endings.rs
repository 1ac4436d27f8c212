//! How a delivery ends: its plan is carried out, or the one that keeps its message; then it is settled, last.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use petiole_broker::{Delivery, Unsettled};
use petiole_celery::plan::{Ended, Plan, Settle, await_memory, postpone, quarantine, refuse};
use petiole_celery::{Commit, Message, Refusal, Request, RunKey, Undecodable};
use petiole_runtime::{HostFault, Taken, unpaused};
use serde_json::Value;

use super::{Decoded, Earlier, Journey, Pipeline};
use crate::admit::NotRun;
use crate::carry_out::{Carried, Ending, Fault};
use crate::catalog::registered::RegisteredTask;
use crate::causes::causes;
use crate::tell::task_log;
use crate::turns::runs::Turn;
use crate::turns::slot::Slot;

/// How long a task waits that the worker could not run: for a folder that is not there, say.
const HOST_PAUSE: SignedDuration = SignedDuration::from_secs(10);

impl Journey<'_> {
    /// Ends a delivery as earlier ones of its run say.
    pub(super) async fn end_as(
        &self,
        earlier: Earlier,
        message: Message,
        delivery: Delivery,
        turn: Turn<'_>,
        slot: Slot,
    ) {
        let room = match &earlier {
            Earlier::Committed(commit) => self.room(commit.memory()).await,
            Earlier::Nothing | Earlier::Settled(_) | Earlier::NotCarriedOut(_) => {
                Ok(Taken::default())
            }
        };
        drop(slot);
        let room = match room {
            Ok(room) => room,
            Err(fault) => return self.unsettled(&fault),
        };
        match earlier {
            Earlier::Nothing => {}
            Earlier::Settled(settle) => {
                self.settle(settle, delivery, turn).await;
            }
            Earlier::Committed(commit) => {
                match self.carry_on(&commit, turn.key(), &message).await {
                    Ok(Carried::Out | Carried::Before(_)) => {
                        self.settle(commit.settle, delivery, turn).await;
                    }
                    Ok(Carried::GivenUp(reason)) => {
                        drop((commit, room));
                        self.give_up(reason, message, delivery, turn).await;
                    }
                    Err(fault) => self.unsettled(&fault),
                }
            }
            Earlier::NotCarriedOut(reason) => match self.decoded(message, &delivery).await {
                None => {}
                Some((Ok(request), _room)) => {
                    let refusal = not_carried_out(reason);
                    self.refuse(&request, refusal, delivery, turn).await;
                }
                Some((Err(undecodable), _room)) => self.quarantine(&undecodable, delivery).await,
            },
        }
    }

    /// Decodes a message that is not run, as soon as there is room for that. None where its connection is gone, or the
    /// worker is told to stop.
    async fn decoded(&self, message: Message, delivery: &Delivery) -> Option<Decoded> {
        let room = self.pipeline.room_to_decode(&message);
        let room = self.pipeline.worth_it(room, delivery).await?;
        Some(self.pipeline.decode(message, room))
    }

    /// Ends a request that is not run.
    pub(super) async fn decline(&self, not_run: NotRun, delivery: Delivery, turn: Turn<'_>) {
        let metrics = &self.pipeline.status.metrics;
        let now = Timestamp::now();
        match not_run {
            NotRun::Postpone { request, until } => {
                let plan = match postpone(&request, until, &self.source, now) {
                    Ok(plan) => plan,
                    Err(refusal) => return self.refuse(&request, refusal, delivery, turn).await,
                };
                match self.end(plan, (), &request, delivery, turn).await {
                    Some(Ended::Postponed) => {
                        metrics.postponed(&self.labels);
                        task_log::postponed(&request, until);
                    }
                    // It was given up, which is told of there.
                    Some(_) => metrics.refused(&self.labels, &not_carried_out(String::new())),
                    None => {}
                }
            }
            NotRun::AwaitModule { request, until } => {
                // Where it can't wait in the broker, it comes again of its own.
                if let Ok(plan) = postpone(&request, until, &self.source, now)
                    && self.give_back(plan, until, delivery, turn).await
                {
                    task_log::awaits_module(&request, until);
                }
            }
            NotRun::AwaitHost {
                request,
                fault,
                task,
            } => {
                let until = now.saturating_add(HOST_PAUSE).unwrap_or(now);
                match postpone(&request, until, &self.source, now) {
                    Ok(plan) => {
                        if self.give_back(plan, until, delivery, turn).await {
                            metrics.fault(&self.labels);
                            let is_new = !task.awaits_host.swap(true, Ordering::Relaxed);
                            task_log::awaits_host(&request, until, &fault, is_new);
                        }
                    }
                    // It can't wait in the broker, and comes again of its own.
                    Err(_) => self.unsettled(&fault.into()),
                }
            }
            NotRun::AwaitMemory { request } => {
                let (plan, until) = match await_memory(&request, &self.source, now) {
                    Ok(put_off) => put_off,
                    Err(refusal) => return self.refuse(&request, refusal, delivery, turn).await,
                };
                if self.give_back(plan, until, delivery, turn).await {
                    task_log::awaits_memory(&request, until);
                }
            }
            NotRun::Refuse { request, refusal } => {
                self.refuse(&request, refusal, delivery, turn).await;
            }
            NotRun::Quarantine(undecodable) => self.quarantine(&undecodable, delivery).await,
        }
    }

    /// Ends a request that the sandbox was not there for.
    pub(super) async fn not_run(
        &self,
        request: Box<Request>,
        task: Arc<RegisteredTask>,
        fault: Fault,
        delivery: Delivery,
        turn: Turn<'_>,
    ) {
        let not_run = match fault {
            Fault::Sandbox(HostFault::NoMemoryLeft { .. }) => NotRun::AwaitMemory { request },
            Fault::Sandbox(fault @ HostFault::Internal { .. }) => NotRun::AwaitHost {
                request,
                fault,
                task,
            },
            fault => return self.unsettled(&fault),
        };
        self.decline(not_run, delivery, turn).await;
    }

    /// Keeps the message of a request that is not run.
    async fn refuse(
        &self,
        request: &Request,
        refusal: Refusal,
        delivery: Delivery,
        turn: Turn<'_>,
    ) {
        let policy = &self.pipeline.servers.policy;
        // What follows a failure may be much larger than the message.
        let planning = self.planning(true);
        let Some(Ok(planning)) = self.pipeline.worth_it(planning, &delivery).await else {
            return self.unsettled(&Fault::NotBegun);
        };
        let plan = unpaused(true, || {
            refuse(request, &refusal, &self.source, policy, Timestamp::now())
        });
        if self
            .end(plan, planning, request, delivery, turn)
            .await
            .is_some()
        {
            self.pipeline.status.metrics.refused(&self.labels, &refusal);
            task_log::refused(request, &refusal);
        }
    }

    /// Ends a message without a run: it is no request.
    pub(super) async fn no_request(&self, message: Message, delivery: Delivery) {
        // One that is a request has a run.
        if let Some((Err(undecodable), _room)) = self.decoded(message, &delivery).await {
            self.quarantine(&undecodable, delivery).await;
        }
    }

    /// Keeps a message that is no request.
    pub(super) async fn quarantine(&self, undecodable: &Undecodable, delivery: Delivery) {
        let Pipeline {
            servers, status, ..
        } = self.pipeline;
        let policy = &servers.policy;
        let plan = quarantine(undecodable, &self.source, policy, Timestamp::now());
        let kept = async {
            let room = self.room_beside(plan.memory(), &delivery).await?;
            tokio::select! {
                biased;
                carried = servers.carry_out(&plan, None, room) => drop(carried?),
                // It comes again, and nothing tells the two apart.
                () = delivery.gone() => return Err(Fault::NotBegun),
            }
            Ok(settle_as(delivery, plan.settle).await?)
        };
        match kept.await {
            Ok(()) => {
                status.metrics.refused(&self.labels, &undecodable.refusal);
                task_log::undecodable(undecodable, &self.source.queue);
            }
            Err(fault) => self.unsettled(&fault),
        }
    }

    /// Room for the plan of a message that was not run. It comes again where its connection is gone meanwhile, or the worker is told to stop.
    async fn room_beside(&self, bytes: usize, delivery: &Delivery) -> Result<Taken, Fault> {
        let room = self.pipeline.registry.budget().plans().take(bytes);
        let room = self.pipeline.worth_it(room, delivery).await;
        room.ok_or(Fault::NotBegun)
    }

    /// Gives a message back to its queue that is to be run later; where that can't be, it comes again of its own. It is
    /// nobody's fault but the host's, so it is not kept in quarantine either. False where it was not settled.
    async fn give_back(
        &self,
        plan: Plan,
        until: Timestamp,
        delivery: Delivery,
        mut turn: Turn<'_>,
    ) -> bool {
        if !delivery.usable() {
            self.unsettled(&Fault::NotBegun);
            return false;
        }
        for message in plan.publications {
            if let Err(error) = self.pipeline.servers.broker().publish(message).await {
                self.unsettled(&error.into());
                return false;
            }
        }
        turn.postponed = Some(until);
        let given_back = self.settle(plan.settle, delivery, turn).await;
        if given_back {
            self.pipeline.status.metrics.postponed(&self.labels);
        }
        given_back
    }

    /// Ends a request that is not run: what that makes of it, once it is settled. `planning`: the turn in which its plan was
    /// made.
    async fn end<P>(
        &self,
        plan: Plan,
        planning: P,
        request: &Request,
        delivery: Delivery,
        mut turn: Turn<'_>,
    ) -> Option<Ended> {
        let until = plan.publications.iter().find_map(|one| one.not_before);
        let carried = async {
            let room = self.room_beside(plan.memory(), &delivery).await?;
            drop(planning);
            self.carry_out(plan, request, &turn, room).await
        };
        match carried.await {
            Ok((settle, ended)) => {
                turn.postponed = until.filter(|_| ended == Some(Ended::Postponed));
                let settled = self.settle(settle, delivery, turn).await;
                ended.filter(|_| settled)
            }
            Err(fault) => {
                self.unsettled(&fault);
                None
            }
        }
    }

    /// Keeps the message of a run that can't be brought to the end that it had.
    async fn give_up(&self, reason: String, message: Message, delivery: Delivery, turn: Turn<'_>) {
        let Some((received, _room)) = self.decoded(message, &delivery).await else {
            return;
        };
        let request = match received {
            Ok(request) => request,
            Err(undecodable) => return self.quarantine(&undecodable, delivery).await,
        };
        match self.keep(reason, &request, &turn).await {
            Ok((settle, _)) => {
                self.settle(settle, delivery, turn).await;
            }
            Err(fault) => self.unsettled(&fault),
        }
    }

    /// Carries out what is left of the end that an earlier delivery has committed.
    async fn carry_on(
        &self,
        commit: &Commit<'_>,
        key: &RunKey,
        message: &Message,
    ) -> Result<Carried, Fault> {
        let carried = self.pipeline.servers.carry_on(commit, key).await?;
        if carried == Carried::Out {
            let task = message.headers.get("task").and_then(Value::as_str);
            task_log::ended_before(task.unwrap_or("?"), key.id(), commit.publications.len());
        }
        Ok(carried)
    }

    /// Carries a plan out or, where that can't be, the one that keeps the message. How the delivery is settled then, and
    /// what it makes of the task; nothing where another delivery of the run has brought it to its end. `room`: the plan's, as
    /// [`Servers::carry_out`](crate::carry_out::Servers::carry_out) has it.
    pub(super) async fn carry_out(
        &self,
        plan: Plan,
        request: &Request,
        turn: &Turn<'_>,
        room: Taken,
    ) -> Result<(Settle, Option<Ended>), Fault> {
        let run = commits(request, &plan).then(|| Ending {
            key: turn.key(),
            replaces: turn.replaces,
        });
        let carried = self.pipeline.servers.carry_out(&plan, run, room).await?;
        let (settle, ended) = plan.into_end();
        match carried {
            Carried::Out => Ok((settle, Some(ended))),
            Carried::GivenUp(reason) => self.keep(reason, request, turn).await,
            Carried::Before(commit) => self.committed_before(commit, request, turn).await,
        }
    }

    async fn committed_before(
        &self,
        commit: Commit<'_>,
        request: &Request,
        turn: &Turn<'_>,
    ) -> Result<(Settle, Option<Ended>), Fault> {
        let room = self.room(commit.memory()).await?;
        let carried = self.carry_on(&commit, turn.key(), &request.message).await?;
        let settle = commit.settle;
        drop((commit, room));
        match carried {
            Carried::GivenUp(reason) => self.keep(reason, request, turn).await,
            Carried::Out | Carried::Before(_) => Ok((settle, None)),
        }
    }

    /// Keeps the message of a task whose plan was given up.
    async fn keep(
        &self,
        reason: String,
        request: &Request,
        turn: &Turn<'_>,
    ) -> Result<(Settle, Option<Ended>), Fault> {
        let servers = &self.pipeline.servers;
        let refusal = not_carried_out(reason);
        tracing::error!(target: "petiole", task = request.task, id = request.id, "Task {}[{}]: its message goes to quarantine: {refusal}", request.task, request.id);
        let planning = self.planning(true).await?;
        let policy = &servers.policy;
        let plan = unpaused(true, || {
            refuse(request, &refusal, &self.source, policy, Timestamp::now())
        });
        let room = self.room(plan.memory()).await?;
        drop(planning);
        servers.keep(&plan, turn.key(), room).await?;
        Ok((plan.settle, Some(plan.ended)))
    }

    /// Settles a delivery, last. Where that fails, the next delivery of its run is settled likewise, without a run.
    pub(super) async fn settle(&self, settle: Settle, delivery: Delivery, turn: Turn<'_>) -> bool {
        match settle_as(delivery, settle).await {
            Ok(()) => {
                turn.done(settle);
                true
            }
            Err(unsettled) => {
                turn.unacked(settle);
                self.unsettled(&unsettled.into());
                false
            }
        }
    }

    pub(super) fn unsettled(&self, fault: &Fault) {
        self.pipeline.status.metrics.fault(&self.labels);
        let causes = causes(fault);
        match fault {
            // The broker has told of the connection, once for all of its deliveries.
            Fault::Settle(_) | Fault::NotBegun => {
                tracing::debug!(target: "petiole", "a delivery was left unsettled and will come again: {causes}");
            }
            Fault::Sandbox(_)
            | Fault::Store(_)
            | Fault::Publish(_)
            | Fault::ColdShutdown
            | Fault::NotKept => {
                tracing::warn!(target: "petiole", "a delivery was left unsettled and will come again: {causes}");
            }
        }
    }
}

/// Whether a plan is committed as the end of its request's run. One that postpones it ends none; nor is there
/// anything to remember of a task whose sender wants no result, where it sends nothing either.
fn commits(request: &Request, plan: &Plan) -> bool {
    plan.ended != Ended::Postponed && !(request.ignore_result && plan.publications.is_empty())
}

fn not_carried_out(reason: String) -> Refusal {
    Refusal::NotCarriedOut { reason }
}

async fn settle_as(delivery: Delivery, settle: Settle) -> Result<(), Unsettled> {
    match settle {
        Settle::Ack => delivery.ack().await,
        Settle::Reject => delivery.reject().await,
    }
}
