//! Ends of messages that are not run, or not any more, and of plans that can't be carried out.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use petiole_celery::plan::{Ended, Plan, Settle, await_memory, postpone, quarantine, refuse};
use petiole_celery::{Commit, Message, Refusal, Request, RunKey, Undecodable};
use petiole_runtime::{HostFault, Taken, off_the_executor};

use super::arrive::Earlier;
use super::state::{End, Journey, Left};
use crate::admit::NotRun;
use crate::carry_out::{Carried, Ending, Fault};
use crate::catalog::registered::RegisteredTask;
use crate::tell::report::Report;
use crate::turns::runs::Turn;
use crate::turns::slot::Slot;

/// Time for which a task waits that the worker could not run: for a folder that is not there, say.
const HOST_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// The end of a run.
pub(super) enum RunEnd {
    Now(Ended),
    /// Another delivery of it has brought it to its end.
    Before(Report),
}

impl Journey<'_> {
    /// Ends a delivery as earlier ones of its run say.
    pub(super) async fn end_as(
        &self,
        earlier: Earlier,
        message: Message,
        turn: &mut Turn<'_>,
        slot: Slot,
    ) -> Result<End, Left> {
        match earlier {
            Earlier::Settled(settle) => Ok(End::silent(settle)),
            Earlier::Committed(commit) => {
                let room = self.room(commit.memory()).await?;
                drop(slot);
                match self.carry_on(&commit, turn.key(), &message).await? {
                    Ok(report) => Ok(End::of(commit.settle, report)),
                    Err(reason) => {
                        drop((commit, room));
                        self.give_up(reason, message, turn).await
                    }
                }
            }
            Earlier::NotCarriedOut(reason) => {
                drop(slot);
                let (decoded, room) = self.decoded(message).await?;
                let end = match decoded {
                    Ok(request) => {
                        let refusal = Refusal::NotCarriedOut { reason };
                        self.refuse(Box::new(request), refusal, turn).await?
                    }
                    Err(undecodable) => self.quarantine(undecodable).await?,
                };
                Ok(end.within(room))
            }
        }
    }

    /// Ends a request that is not run.
    pub(super) async fn decline(&self, not_run: NotRun, turn: &mut Turn<'_>) -> Result<End, Left> {
        let now = Timestamp::now();
        match not_run {
            NotRun::Postpone { request, until } => {
                let plan = match postpone(&request, until, &self.source, now) {
                    Ok(plan) => plan,
                    Err(refusal) => return self.refuse(request, refusal, turn).await,
                };
                let (settle, end) = self.end(plan, (), &request, turn).await?;
                let report = match end {
                    RunEnd::Now(Ended::Postponed) => Report::Postponed { request, until },
                    RunEnd::Now(_) => Report::NotPostponed,
                    RunEnd::Before(report) => report,
                };
                Ok(End::of(settle, report))
            }
            NotRun::AwaitModule { request, until } => {
                let plan = postpone(&request, until, &self.source, now);
                let plan = plan.map_err(|_| Left::NoModule)?;
                let settle = self.put_off(plan, until, turn).await?;
                Ok(End::of(settle, Report::AwaitsModule { request, until }))
            }
            NotRun::AwaitHost {
                request,
                fault,
                task,
            } => {
                let until = now.saturating_add(HOST_PAUSE).unwrap_or(now);
                let Ok(plan) = postpone(&request, until, &self.source, now) else {
                    // It can't wait in the broker, and comes again of its own.
                    return Err(Fault::from(fault).into());
                };
                let settle = self.put_off(plan, until, turn).await?;
                let report = Report::AwaitsHost {
                    request,
                    until,
                    fault,
                    task,
                };
                Ok(End::of(settle, report))
            }
            NotRun::AwaitMemory { request } => {
                let (plan, until) = match await_memory(&request, &self.source, now) {
                    Ok(put_off) => put_off,
                    Err(refusal) => return self.refuse(request, refusal, turn).await,
                };
                let settle = self.put_off(plan, until, turn).await?;
                Ok(End::of(settle, Report::AwaitsMemory { request, until }))
            }
            NotRun::Refuse { request, refusal } => self.refuse(request, refusal, turn).await,
            NotRun::Quarantine(undecodable) => self.quarantine(undecodable).await,
        }
    }

    /// Ends a request that the sandbox was not there for.
    pub(super) async fn not_run(
        &self,
        request: Box<Request>,
        task: Arc<RegisteredTask>,
        fault: Fault,
        turn: &mut Turn<'_>,
    ) -> Result<End, Left> {
        let not_run = match fault {
            Fault::Sandbox(HostFault::NoMemoryLeft { .. }) => NotRun::AwaitMemory { request },
            Fault::Sandbox(fault @ HostFault::Internal { .. }) => NotRun::AwaitHost {
                request,
                fault,
                task,
            },
            fault => return Err(fault.into()),
        };
        self.decline(not_run, turn).await
    }

    /// Keeps the message of a request that is not run.
    async fn refuse(
        &self,
        request: Box<Request>,
        refusal: Refusal,
        turn: &mut Turn<'_>,
    ) -> Result<End, Left> {
        let policy = &self.pipeline.servers.policy;
        // The messages that follow a failure may be much larger than this one.
        let planning = self.worth_it(self.planning(true)).await??;
        let plan = off_the_executor(true, || {
            refuse(&request, &refusal, &self.source, policy, Timestamp::now())
        });
        let (settle, end) = self.end(plan, planning, &request, turn).await?;
        let report = match end {
            RunEnd::Now(_) => Report::Refused { request, refusal },
            RunEnd::Before(report) => report,
        };
        Ok(End::of(settle, report))
    }

    /// Ends a message without a run: it is no request.
    pub(super) async fn no_request(&self, message: Message) -> Result<End, Left> {
        let (Err(undecodable), room) = self.decoded(message).await? else {
            return Err(Left::NoRun);
        };
        Ok(self.quarantine(undecodable).await?.within(room))
    }

    /// Keeps a message that is no request.
    async fn quarantine(&self, message: Box<Undecodable>) -> Result<End, Left> {
        let servers = &self.pipeline.servers;
        let plan = quarantine(&message, &self.source, &servers.policy, Timestamp::now());
        let room = self.room_beside(plan.memory()).await?;
        tokio::select! {
            biased;
            carried = servers.carry_out(&plan, None, room) => drop(carried?),
            // It comes again, and nothing tells the two apart.
            () = self.receipt.gone() => return Err(Left::Gone),
        }
        let queue = self.source.queue.clone();
        Ok(End {
            ends_run: false,
            ..End::of(plan.settle, Report::Undecodable { message, queue })
        })
    }

    /// Room for the plan of a message that was not run. It comes again where its connection is gone meanwhile, or the
    /// worker is told to stop.
    async fn room_beside(&self, bytes: usize) -> Result<Taken, Left> {
        let room = self.pipeline.registry.budget().plans().take(bytes);
        self.worth_it(room).await
    }

    /// Publishes a message that is to be run later; where that can't be, it comes again of its own. It is nobody's fault
    /// but the host's, so it is not kept in quarantine either.
    async fn put_off(
        &self,
        plan: Plan,
        until: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Settle, Left> {
        if !self.receipt.usable() {
            return Err(Left::Gone);
        }
        for message in plan.publications {
            let published = self.pipeline.servers.broker().publish(message).await;
            published.map_err(Fault::from)?;
        }
        turn.postponed = Some(until);
        Ok(plan.settle)
    }

    /// Ends a request that is not run. `planning`: the turn in which its plan was made.
    async fn end<P>(
        &self,
        plan: Plan,
        planning: P,
        request: &Request,
        turn: &mut Turn<'_>,
    ) -> Result<(Settle, RunEnd), Left> {
        let until = plan.publications.iter().find_map(|one| one.not_before);
        let room = self.room_beside(plan.memory()).await?;
        drop(planning);
        let (settle, end) = self.carry_out(plan, request, turn, room).await?;
        turn.postponed = until.filter(|_| matches!(end, RunEnd::Now(Ended::Postponed)));
        Ok((settle, end))
    }

    /// Keeps the message of a run that can't be brought to the end that it had.
    async fn give_up(
        &self,
        reason: String,
        message: Message,
        turn: &Turn<'_>,
    ) -> Result<End, Left> {
        let (decoded, room) = self.decoded(message).await?;
        let end = match decoded {
            Ok(request) => End::silent(self.keep(reason, &request, turn).await?.0),
            Err(undecodable) => self.quarantine(undecodable).await?,
        };
        Ok(end.within(room))
    }

    /// Carries out what is left of the end that an earlier delivery has committed; the inner error is what it is given up
    /// for.
    async fn carry_on(
        &self,
        commit: &Commit<'_>,
        key: &RunKey,
        message: &Message,
    ) -> Result<Result<Report, String>, Fault> {
        match self.pipeline.servers.carry_on(commit, key).await? {
            Carried::GivenUp(reason) => Ok(Err(reason)),
            Carried::Out | Carried::Before(_) => Ok(Ok(Report::EndedBefore {
                task: message
                    .task()
                    .map_or_else(|| "?".to_owned(), Cow::into_owned),
                id: key.id().to_owned(),
                sent: commit.publications.len(),
            })),
        }
    }

    /// Carries a plan out or, where that can't be, the one that keeps the message: how the delivery is settled then, and
    /// how its run has ended. `room`: the plan's, as [`Servers::carry_out`](crate::carry_out::Servers::carry_out) has it.
    pub(super) async fn carry_out(
        &self,
        plan: Plan,
        request: &Request,
        turn: &Turn<'_>,
        room: Taken,
    ) -> Result<(Settle, RunEnd), Fault> {
        let run = commits(request, &plan).then(|| Ending {
            key: turn.key(),
            replaces: turn.replaces,
        });
        let carried = self.pipeline.servers.carry_out(&plan, run, room).await?;
        let (settle, ended) = plan.into_end();
        match carried {
            Carried::Out => Ok((settle, RunEnd::Now(ended))),
            Carried::GivenUp(reason) => self.keep(reason, request, turn).await,
            Carried::Before(commit) => self.committed_before(commit, request, turn).await,
        }
    }

    async fn committed_before(
        &self,
        commit: Commit<'_>,
        request: &Request,
        turn: &Turn<'_>,
    ) -> Result<(Settle, RunEnd), Fault> {
        let room = self.room(commit.memory()).await?;
        let carried = self.carry_on(&commit, turn.key(), &request.message).await?;
        let settle = commit.settle;
        drop((commit, room));
        match carried {
            Ok(report) => Ok((settle, RunEnd::Before(report))),
            Err(reason) => self.keep(reason, request, turn).await,
        }
    }

    /// Keeps the message of a task whose plan was given up.
    async fn keep(
        &self,
        reason: String,
        request: &Request,
        turn: &Turn<'_>,
    ) -> Result<(Settle, RunEnd), Fault> {
        let servers = &self.pipeline.servers;
        let refusal = Refusal::NotCarriedOut { reason };
        tracing::error!(target: "petiole", task = request.task, id = request.id, "Task {}[{}]: its message goes to quarantine: {refusal}", request.task, request.id);
        let planning = self.planning(true).await?;
        let policy = &servers.policy;
        let plan = off_the_executor(true, || {
            refuse(request, &refusal, &self.source, policy, Timestamp::now())
        });
        let room = self.room(plan.memory()).await?;
        drop(planning);
        servers.keep(&plan, turn.key(), room).await?;
        Ok((plan.settle, RunEnd::Now(plan.ended)))
    }
}

/// True of a plan that is committed as the end of its request's run. One that postpones it ends none; nor is there
/// anything to remember of a task whose sender wants no result, where it sends nothing either.
fn commits(request: &Request, plan: &Plan) -> bool {
    plan.ended != Ended::Postponed && !(request.ignore_result && plan.publications.is_empty())
}
