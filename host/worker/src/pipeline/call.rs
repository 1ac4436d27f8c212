//! The call of a task, and the memory that its plan needs.

use std::pin::pin;
use std::task::Poll;

use petiole_celery::plan::{Plan, Ran};
use petiole_celery::{Lineage, Request};
use petiole_runtime::{Context, Run, RunMemory, Taken};
use tokio::sync::{SemaphorePermit, watch};

use super::state::{Journey, Pipeline};
use crate::admit::Ready;
use crate::carry_out::Fault;
use crate::progress::store_progress;
use crate::shutdown::Stage;
use crate::tell::lines;
use crate::tell::run_report::{RunReport, usage};
use crate::turns::runs::Turn;

/// A task that was run.
pub(super) struct Called {
    pub(super) request: Box<Request>,
    pub(super) ran: Ran,
    pub(super) run: RunReport,
    pub(super) memory: RunMemory,
}

impl Journey<'_> {
    /// Calls the export in a fresh sandbox, and stores the states that the task sets meanwhile. The request comes back
    /// where the sandbox was not there for it.
    pub(super) async fn call(
        &self,
        ready: Ready,
        turn: &Turn<'_>,
    ) -> Result<Called, (Box<Request>, Fault)> {
        let Ready {
            request,
            task,
            arguments,
            limits,
            retry,
        } = ready;
        let servers = &self.pipeline.servers;
        let _active = self.metrics.started();
        let (progress, updates) = watch::channel(None);
        let (context, granted) = (context(&request), &task.grants.granted);
        let call = task
            .task
            .call(arguments, context, limits, granted, &progress);
        let run_key = (!turn.replaces).then(|| turn.key());
        let run = tokio::select! {
            run = call => run.map_err(Fault::from),
            never = store_progress(updates, &request, run_key, &self.source, servers) => match never {},
            () = servers.shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
        };
        let run: Run = match run {
            Ok(run) => run,
            Err(fault) => return Err((request, fault)),
        };
        Ok(Called {
            run: RunReport::of(&run, granted),
            ran: Ran {
                outcome: run.outcome,
                sent: run.sent,
                lineage: Lineage {
                    descendants: limits.descendants,
                    depth: limits.depth,
                },
                retry,
                usage: usage(&run.usage),
            },
            memory: run.memory,
            request,
        })
    }

    /// A large plan is made beside few others, as long as it has no room: it may take much more than is known before.
    pub(super) async fn planning(&self, long: bool) -> Result<Option<SemaphorePermit<'_>>, Fault> {
        let Pipeline {
            servers, planning, ..
        } = self.pipeline;
        if !long {
            return Ok(None);
        }
        tokio::select! {
            biased;
            // It is never closed.
            permit = planning.acquire() => Ok(permit.ok()),
            () = servers.shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
        }
    }

    /// Room for the bytes of a plan, until it is carried out.
    pub(super) async fn room(&self, bytes: usize) -> Result<Taken, Fault> {
        let Pipeline {
            servers, registry, ..
        } = self.pipeline;
        tokio::select! {
            biased;
            taken = registry.budget().plans().take(bytes) => Ok(taken),
            () = servers.shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
        }
    }

    /// The same for a task that has run, and keeps its slot as long as it waits.
    pub(super) async fn room_after(&self, request: &Request, plan: &Plan) -> Result<Taken, Fault> {
        let mut room = pin!(self.room(plan.memory()));
        match futures::poll!(room.as_mut()) {
            Poll::Ready(room) => room,
            Poll::Pending => {
                lines::awaits_room(request);
                room.await
            }
        }
    }
}

fn context(request: &Request) -> Context {
    Context {
        id: request.id.clone(),
        task: request.task.clone(),
        retries: request.retries,
        root_id: request.root_id.clone(),
        parent_id: request.parent_id.clone(),
        group_id: request.group.clone(),
        group_index: request.group_index,
        headers: request.own_headers(),
    }
}
