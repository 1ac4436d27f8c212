//! The journey of a task: delivery -> decode -> admit -> run -> outcome -> plan -> carry out -> settle.
//!
//! What is decided here is decided by pure functions ([`admit`], [`plan`] and its neighbours); what is left
//! is the order of things. Three kinds of trouble never mix: a guest that fails is an
//! [`Outcome`](petiole_celery::Outcome), a message that is not run is a
//! [`Refusal`](petiole_celery::Refusal), and a fault of the host ([`Fault`]) is the only one that leaves a
//! delivery unsettled, so that the broker delivers it again.

use std::sync::Arc;

use jiff::Timestamp;
use petiole_broker::{Delivery, Unsettled};
use petiole_celery::Request;
use petiole_celery::plan::{Plan, Policy, Settle, Source, plan, postpone, quarantine, refuse};
use petiole_runtime::{Arguments, Context, Limits, Run};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::admit::{Admitted, Ready, admit};
use crate::carry_out::{Fault, Servers, causes};
use crate::progress::store_progress;
use crate::registered::RegisteredTask;
use crate::registry::Registry;
use crate::runs::Runs;
use crate::shutdown::Stage;
use crate::status::{Count, Status};
use crate::task_log;

/// What the journeys of a worker share.
pub(crate) struct Pipeline {
    pub(crate) servers: Servers,
    pub(crate) registry: Arc<Registry>,
    pub(crate) policy: Policy,
    pub(crate) status: Arc<Status>,
    pub(crate) runs: Runs,
}

impl Pipeline {
    /// Takes one delivery to its settlement.
    pub(crate) async fn journey(&self, mut delivery: Delivery, slot: OwnedSemaphorePermit) {
        self.status.count(Count::Received);
        let source = source(&delivery);
        let message = std::mem::take(&mut delivery.message);
        let now = Timestamp::now();
        let plan = match admit(Request::decode(message), &self.registry, now) {
            Admitted::Run(ready) => return self.run(*ready, delivery, &source, slot).await,
            Admitted::Postpone { request, until } => {
                self.status.count(Count::Postponed);
                task_log::postponed(&request, until);
                postpone(&request, until, &source)
            }
            Admitted::Refuse { request, refusal } => {
                self.status.count(Count::Refused);
                task_log::refused(&request, &refusal);
                refuse(&request, &refusal, &source, &self.policy, now)
            }
            Admitted::Quarantine(undecodable) => {
                self.status.count(Count::Refused);
                task_log::undecodable(&undecodable, &source.queue);
                quarantine(&undecodable, &source, &self.policy, now)
            }
        };
        drop(slot);
        let _ = self.finish(&plan, delivery).await;
    }

    /// Runs a request, unless an earlier delivery of it was carried out here and only its ack was lost. The
    /// slot is given back as soon as the guest has ended: storing and publishing need none.
    async fn run(
        &self,
        ready: Ready,
        delivery: Delivery,
        source: &Source,
        slot: OwnedSemaphorePermit,
    ) {
        let Ready {
            request,
            task,
            arguments,
            limits,
        } = ready;
        let turn = self.runs.turn(&request).await;
        if let Some(settle) = turn.settled().filter(|_| delivery.redelivered) {
            if settle_as(delivery, settle).await.is_err() {
                turn.unacked(settle);
            }
            return;
        }
        if !delivery.usable() {
            return;
        }
        task_log::received(&request);
        let run = match self.call(&request, &task, arguments, limits, source).await {
            Ok(run) => run,
            Err(fault) => return self.unsettled(&fault),
        };
        drop(slot);
        self.status.count(Count::of(&run.outcome));
        task_log::ended(&request, &run);
        let plan = plan(
            &request,
            run.outcome,
            &run.sent,
            source,
            &self.policy,
            Timestamp::now(),
        );
        match self.finish(&plan, delivery).await {
            Ok(()) => turn.done(plan.settle),
            Err(Fault::Settle(_)) => turn.unacked(plan.settle),
            Err(Fault::Sandbox(_) | Fault::Store(_) | Fault::Publish(_) | Fault::ColdShutdown) => {}
        }
    }

    /// Calls the export in a fresh sandbox, and stores the states that the task sets meanwhile.
    async fn call(
        &self,
        request: &Request,
        task: &RegisteredTask,
        arguments: Arguments,
        limits: Limits,
        source: &Source,
    ) -> Result<Run, Fault> {
        let _active = self.status.run();
        let (progress, updates) = watch::channel(None);
        let call = task
            .task
            .call(arguments, context(request), limits, &progress);
        tokio::select! {
            run = call => {
                let mut run = run?;
                let outcome = task.with_retry_settings(run.outcome);
                run.outcome = outcome.unless_exhausted(request.retries, self.policy.max_retries);
                Ok(run)
            }
            never = store_progress(updates, request, source, &self.policy, &self.servers) => match never {},
            () = self.servers.shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
        }
    }

    /// Carries a plan out, and settles the delivery last.
    async fn finish(&self, plan: &Plan, delivery: Delivery) -> Result<(), Fault> {
        let finished = match self.servers.carry_out(plan).await {
            Ok(()) => settle_as(delivery, plan.settle).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        finished.inspect_err(|fault| self.unsettled(fault))
    }

    fn unsettled(&self, fault: &Fault) {
        self.status.count(Count::Faults);
        tracing::warn!(target: "petiole", "a delivery was left unsettled and will come again: {}", causes(fault));
    }
}

async fn settle_as(delivery: Delivery, settle: Settle) -> Result<(), Unsettled> {
    match settle {
        Settle::Ack => delivery.ack().await,
        Settle::Requeue => delivery.requeue().await,
        Settle::Reject => delivery.reject().await,
    }
}

fn source(delivery: &Delivery) -> Source {
    Source {
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
        queue: delivery.queue.clone(),
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
