//! The journey of a task: delivery -> decode -> admit -> run -> outcome -> plan -> carry out -> settle.
//!
//! What is decided here is decided by pure functions ([`admit`], [`plan`] and its neighbours); what is left
//! is the order of things. Three kinds of trouble never mix: a guest that fails is an
//! [`Outcome`](petiole_celery::Outcome), a message that is not run is a
//! [`Refusal`](petiole_celery::Refusal), and a fault of the host ([`Fault`]) is the only one that leaves a
//! delivery unsettled, so that the broker delivers it again.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use petiole_broker::{Delivery, Unsettled};
use petiole_celery::plan::{Plan, Policy, Ran, Settle, Source, plan, postpone, quarantine, refuse};
use petiole_celery::{Lineage, Message, Refusal, Request, Undecodable};
use petiole_runtime::{Context, Run, is_long, unpaused};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::active::Found;
use crate::admit::{Admitted, NotRun, Ready, admit};
use crate::carry_out::{Carried, Fault, Servers, causes};
use crate::metrics::TaskLabels;
use crate::progress::store_progress;
use crate::registry::Registry;
use crate::runs::{Before, Runs};
use crate::shutdown::Stage;
use crate::slot::Slot;
use crate::status::Status;
use crate::task_log;
use crate::usage::{Told, usage};

/// What the journeys of a worker share.
pub(crate) struct Pipeline {
    pub(crate) servers: Servers,
    pub(crate) registry: Arc<Registry>,
    pub(crate) policy: Policy,
    /// After how many lost deliveries a message is not run any more.
    pub(crate) delivery_limit: u64,
    pub(crate) status: Arc<Status>,
    pub(crate) runs: Runs,
}

impl Pipeline {
    /// Takes one delivery to its settlement.
    pub(crate) async fn journey(&self, mut delivery: Delivery, mut slot: Slot) {
        let source = source(&delivery);
        let message = std::mem::take(&mut delivery.message);
        if !self.sought(&message, &delivery, &mut slot).await {
            return;
        }
        let (labels, admitted) = unpaused(takes_long(&message), || {
            let received = self.decode(message);
            let labels = self.labels(&received, &source);
            self.status.metrics.received(&labels);
            (labels, self.admit(received))
        });
        match admitted {
            Admitted::Run(ready) => self.run(ready, delivery, &source, &labels, slot).await,
            Admitted::Not(not_run) => {
                drop(slot);
                self.settle(not_run, delivery, &source, &labels).await;
            }
        }
    }

    /// Asks the catalog about a task that is not known here, without a slot: it may have been installed by now. False
    /// where that can't be told, and the delivery is to come again.
    async fn sought(&self, message: &Message, delivery: &Delivery, slot: &mut Slot) -> bool {
        let Some(task) = message.headers.get("task").and_then(Value::as_str) else {
            return true;
        };
        match self.registry.find(task) {
            Found::Task(_) => return true,
            Found::NotLoaded { .. } | Found::Refused { .. } | Found::Unknown => {}
        }
        tokio::select! {
            biased;
            sought = slot.leave_for(self.registry.seek(task)) => sought,
            () = delivery.gone() => false,
            () = self.servers.shutdown.reached(Stage::Warm) => false,
        }
    }

    /// Settles a message that is not run.
    async fn settle(
        &self,
        not_run: NotRun,
        delivery: Delivery,
        source: &Source,
        labels: &TaskLabels,
    ) {
        let metrics = &self.status.metrics;
        let now = Timestamp::now();
        match not_run {
            NotRun::Postpone { request, until } => {
                let plan = postpone(&request, until, source, &self.policy, now);
                let carried = self.carry_out(plan, &request, source).await;
                if self.settled(carried, delivery, labels).await {
                    metrics.postponed(labels);
                    task_log::postponed(&request, until);
                }
            }
            NotRun::Await { request, until } => {
                let plan = postpone(&request, until, source, &self.policy, now);
                if self.give_back(plan, delivery, labels).await {
                    metrics.postponed(labels);
                    task_log::awaiting(&request, until);
                }
            }
            NotRun::Refuse { request, refusal } => {
                self.refuse(&request, &refusal, delivery, source, labels)
                    .await;
            }
            NotRun::Quarantine(undecodable) => {
                let plan = quarantine(&undecodable, source, &self.policy, now);
                let carried = self.servers.keep(&plan).await.map(|()| plan);
                if self.settled(carried, delivery, labels).await {
                    metrics.refused(labels, &undecodable.refusal);
                    task_log::undecodable(&undecodable, &source.queue);
                }
            }
        }
    }

    /// Keeps the message of a request that is not run.
    async fn refuse(
        &self,
        request: &Request,
        refusal: &Refusal,
        delivery: Delivery,
        source: &Source,
        labels: &TaskLabels,
    ) {
        let plan = refuse(request, refusal, source, &self.policy, Timestamp::now());
        let carried = self.servers.keep(&plan).await.map(|()| plan);
        if self.settled(carried, delivery, labels).await {
            self.status.metrics.refused(labels, refusal);
            task_log::refused(request, refusal);
        }
    }

    /// Gives a message back to its queue that may be run later; where that can't be, it comes again of its own. It is
    /// nobody's fault but the host's, so it is not kept in quarantine either. False where it was not settled.
    async fn give_back(&self, plan: Plan, delivery: Delivery, labels: &TaskLabels) -> bool {
        let settle = plan.settle;
        let given_back = async {
            for message in plan.publications {
                self.servers.broker().publish(message).await?;
            }
            Ok::<_, Fault>(settle_as(delivery, settle).await?)
        };
        match given_back.await {
            Ok(()) => true,
            Err(fault) => {
                self.unsettled(&fault, labels);
                false
            }
        }
    }

    /// Runs a request, unless an earlier delivery of it was carried out here and only its ack was lost. The
    /// slot is given back as soon as the guest has ended: storing and publishing need none.
    async fn run(
        &self,
        ready: Box<Ready>,
        delivery: Delivery,
        source: &Source,
        labels: &TaskLabels,
        mut slot: Slot,
    ) {
        let turn = self.runs.turn(&ready.request);
        let Some((turn, admitted)) = self.wait(turn, ready, &delivery, &mut slot).await else {
            return;
        };
        match turn.before().filter(|_| delivery.redelivered) {
            None => {}
            Some(Before::Settled(settle)) => {
                if settle_as(delivery, settle).await.is_err() {
                    turn.unacked(settle);
                }
                return;
            }
            Some(Before::Ended) => return self.not_again(admitted, delivery, source, labels).await,
        }
        let Some((module_turn, admitted)) = self.module_turn(admitted, &delivery, &mut slot).await
        else {
            return;
        };
        if !delivery.usable() {
            return;
        }
        let ready = match admitted {
            Admitted::Run(ready) => *ready,
            Admitted::Not(not_run) => {
                drop((slot, module_turn));
                return self.settle(not_run, delivery, source, labels).await;
            }
        };
        task_log::received(&ready.request);
        let (request, ran, told) = match self.call(ready, source, labels).await {
            Ok(called) => called,
            Err(fault) => return self.unsettled(&fault, labels),
        };
        drop((slot, module_turn));
        let plan = unpaused(told.long, || {
            plan(&request, ran, source, &self.policy, Timestamp::now())
        });
        let plan = match self.carry_out(plan, &request, source).await {
            Ok(plan) => plan,
            Err(fault) => {
                turn.not_carried_out();
                return self.unsettled(&fault, labels);
            }
        };
        // "Done" is said after the ack. Where that is lost the next delivery is acked without a word.
        let settled = settle_as(delivery, plan.settle).await;
        self.status.metrics.ended(labels, &plan.ended, &told);
        task_log::ended(&request, &plan.ended, &told);
        match settled {
            Ok(()) => turn.done(plan.settle),
            Err(unsettled) => {
                turn.unacked(plan.settle);
                self.unsettled(&unsettled.into(), labels);
            }
        }
    }

    /// Keeps the message of a task that has ended in this process, and could not be carried out.
    async fn not_again(
        &self,
        admitted: Admitted,
        delivery: Delivery,
        source: &Source,
        labels: &TaskLabels,
    ) {
        match admitted {
            Admitted::Run(ready) => {
                let refusal = Refusal::NotCarriedOut {
                    reason: "an earlier delivery has run".to_owned(),
                };
                self.refuse(&ready.request, &refusal, delivery, source, labels)
                    .await;
            }
            Admitted::Not(not_run) => self.settle(not_run, delivery, source, labels).await,
        }
    }

    /// Waits for a turn among the tasks of the request's module, where not all of them may run at once. A
    /// version that has become active meanwhile may have turns of its own: then it waits for one of those.
    async fn module_turn(
        &self,
        mut admitted: Admitted,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<(Option<OwnedSemaphorePermit>, Admitted)> {
        loop {
            let ready = match admitted {
                Admitted::Run(ready) => ready,
                not @ Admitted::Not(_) => return Some((None, not)),
            };
            let task = Arc::clone(&ready.task);
            let (turn, again) = self.wait(task.turn(), ready, delivery, slot).await?;
            match again {
                Admitted::Run(ready) if !ready.task.shares_turns(&task) => {
                    admitted = Admitted::Run(ready);
                }
                again => return Some((turn, again)),
            }
        }
    }

    /// Waits for a turn without a slot, so that what waits keeps nobody from running; and with nothing but the
    /// message, since what it decodes to is much larger. So it is admitted anew after a wait: it may have
    /// expired, or have another version now. None where its connection is gone, or the worker is told to stop.
    /// How many wait is bounded by the prefetch.
    async fn wait<T>(
        &self,
        turn: impl Future<Output = T>,
        ready: Box<Ready>,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<(T, Admitted)> {
        let mut turn = pin!(turn);
        if let Poll::Ready(turn) = futures::poll!(turn.as_mut()) {
            return Some((turn, Admitted::Run(ready)));
        }
        let message = ready.into_message();
        let turn = tokio::select! {
            biased;
            turn = slot.leave_for(turn) => turn,
            () = delivery.gone() => return None,
            () = self.servers.shutdown.reached(Stage::Warm) => return None,
        };
        Some((turn, self.admit_again(message)))
    }

    fn admit_again(&self, message: Message) -> Admitted {
        unpaused(takes_long(&message), || self.admit(self.decode(message)))
    }

    /// Decides whether a message is run. One that was lost too often is not: the next loss would be the last, as
    /// the broker drops it then.
    fn admit(&self, received: Result<Request, Box<Undecodable>>) -> Admitted {
        match received {
            Ok(request) if request.message.deliveries_lost() >= self.delivery_limit => {
                let refusal = Refusal::WorkerLost {
                    count: request.message.deliveries_lost(),
                    limit: self.delivery_limit,
                };
                Admitted::Not(NotRun::Refuse {
                    request: Box::new(request),
                    refusal,
                })
            }
            received => admit(received, &self.registry, Timestamp::now()),
        }
    }

    /// Calls the export in a fresh sandbox, and stores the states that the task sets meanwhile.
    async fn call(
        &self,
        ready: Ready,
        source: &Source,
        labels: &TaskLabels,
    ) -> Result<(Request, Ran, Told), Fault> {
        let Ready {
            request,
            task,
            arguments,
            limits,
            retry,
        } = ready;
        let _active = self.status.metrics.started(labels);
        let (progress, updates) = watch::channel(None);
        let (context, granted) = (context(&request), &task.grants.granted);
        let call = task
            .task
            .call(arguments, context, limits, granted, &progress);
        let run: Run = tokio::select! {
            run = call => run?,
            never = store_progress(updates, &request, source, &self.policy, &self.servers) => match never {},
            () = self.servers.shutdown.reached(Stage::Cold) => return Err(Fault::ColdShutdown),
        };
        let told = Told::of(&run, granted);
        let ran = Ran {
            outcome: run.outcome,
            sent: run.sent,
            lineage: Lineage {
                descendants: limits.descendants,
                depth: limits.depth,
            },
            retry,
            usage: usage(&run.usage),
        };
        Ok((request, ran, told))
    }

    fn decode(&self, message: Message) -> Result<Request, Box<Undecodable>> {
        Request::decode(message, |task| self.registry.argument_limit(task))
    }

    /// A name counts only where a module has it: senders may write any.
    fn labels(&self, received: &Result<Request, Box<Undecodable>>, source: &Source) -> TaskLabels {
        let task = match received {
            Ok(request) => Some(request.task.as_str()),
            Err(undecodable) => undecodable.task.as_deref(),
        };
        let task = task.and_then(|task| self.registry.task(task));
        let name = task.as_ref().map(|task| task.name.as_str());
        self.status.metrics.labels(name, &source.queue)
    }

    /// Carries a plan out or, where that can't be, the one that keeps the message; says which it was.
    async fn carry_out(
        &self,
        plan: Plan,
        request: &Request,
        source: &Source,
    ) -> Result<Plan, Fault> {
        let reason = match self.servers.carry_out(&plan).await? {
            Carried::Out => return Ok(plan),
            Carried::GivenUp(reason) => reason,
        };
        let refusal = Refusal::NotCarriedOut { reason };
        tracing::error!(target: "petiole", task = request.task, id = request.id, "Task {}[{}]: its message is kept: {refusal}", request.task, request.id);
        let plan = refuse(request, &refusal, source, &self.policy, Timestamp::now());
        self.servers.keep(&plan).await?;
        Ok(plan)
    }

    /// Settles a delivery whose plan was carried out, last; whether it is done.
    async fn settled(
        &self,
        carried: Result<Plan, Fault>,
        delivery: Delivery,
        labels: &TaskLabels,
    ) -> bool {
        let settled = match carried {
            Ok(plan) => settle_as(delivery, plan.settle).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        settled
            .inspect_err(|fault| self.unsettled(fault, labels))
            .is_ok()
    }

    fn unsettled(&self, fault: &Fault, labels: &TaskLabels) {
        self.status.metrics.fault(labels);
        tracing::warn!(target: "petiole", "a delivery was left unsettled and will come again: {}", causes(fault));
    }
}

async fn settle_as(delivery: Delivery, settle: Settle) -> Result<(), Unsettled> {
    match settle {
        Settle::Ack => delivery.ack().await,
        Settle::Reject => delivery.reject().await,
    }
}

/// Whether a message takes long to decode; a compressed one may be small.
fn takes_long(message: &Message) -> bool {
    is_long(message.body.len()) || message.headers.contains_key("compression")
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
