//! The journey of a task: delivery -> commit -> decode -> admit -> run -> outcome -> plan -> carry out -> settle.
//!
//! What is decided here is decided by pure functions ([`admit`], [`plan`] and its neighbours); what is left
//! is the order of things. Three kinds of trouble never mix: a guest that fails is an
//! [`Outcome`](petiole_celery::Outcome), a message that is not run is a
//! [`Refusal`](petiole_celery::Refusal), and a fault of the host ([`Fault`]) is the only one that leaves a
//! delivery unsettled, so that the broker delivers it again. How each of them ends a delivery is in `endings`.

mod endings;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use jiff::Timestamp;
use petiole_broker::Delivery;
use petiole_celery::plan::{Plan, Ran, Settle, Source, plan};
use petiole_celery::{
    Commit, Lineage, Message, Refusal, Request, RunKey, Undecodable, memory_to_decode,
    memory_to_inflate,
};
use petiole_runtime::{Context, Run, RunMemory, Taken, is_long, unpaused};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

use crate::admit::{Admitted, NotRun, Ready, admit};
use crate::carry_out::{Fault, Servers};
use crate::catalog::active::Found;
use crate::catalog::registry::Registry;
use crate::causes::causes;
use crate::progress::store_progress;
use crate::shutdown::Stage;
use crate::status::Status;
use crate::tell::metrics::TaskLabels;
use crate::tell::task_log;
use crate::tell::usage::{Told, usage};
use crate::turns::runs::{Before, Runs, Turn};
use crate::turns::slot::Slot;

/// What the journeys of a worker share.
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
    labels: TaskLabels,
}

/// A request that runs, or is known not to.
struct Arrived<'a> {
    admitted: Admitted,
    delivery: Delivery,
    turn: Turn<'a>,
    /// Where it runs: among all tasks, and among those of its module.
    places: (Slot, Option<OwnedSemaphorePermit>),
    /// For what its message is decoded to.
    room: Taken,
}

/// Where a message is decoded, unless that takes more memory than there is for one.
type RoomToDecode = Result<Taken, Refusal>;

/// What a message is decoded to, and its room.
type Decoded = (Result<Request, Box<Undecodable>>, Taken);

/// What earlier deliveries of a run came to.
enum Earlier {
    /// Nothing that is known.
    Nothing,
    /// All is out, and only the ack was lost.
    Settled(Settle),
    Committed(Commit<'static>),
    /// It must not run, for this reason.
    NotCarriedOut(String),
}

impl Pipeline {
    /// Takes one delivery to its settlement.
    pub(crate) async fn journey(&self, mut delivery: Delivery, mut slot: Slot) {
        let source = source(&delivery);
        let mut message = std::mem::take(&mut delivery.message);
        message.count_rejections(&source.queue);
        if !self.sought(&message, &delivery, &mut slot).await {
            return;
        }
        let labels = self.labels(&message, &source);
        self.status.metrics.received(&labels);
        let journey = Journey {
            pipeline: self,
            source,
            labels,
        };
        match RunKey::of(&message, &journey.source.queue) {
            Some(key) => journey.go(key, message, delivery, slot).await,
            None => {
                drop(slot);
                Box::pin(journey.no_request(message, delivery)).await;
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
        let seek = slot.leave_for(self.registry.seek(task));
        self.worth_it(seek, delivery).await.unwrap_or(false)
    }

    /// What is waited for as long as that is of use: none where the delivery's connection is gone, or the worker is told
    /// to stop.
    async fn worth_it<T>(&self, what: impl Future<Output = T>, delivery: &Delivery) -> Option<T> {
        tokio::select! {
            biased;
            had = what => Some(had),
            () = delivery.gone() => None,
            () = self.servers.shutdown.reached(Stage::Warm) => None,
        }
    }

    /// Decodes a message in the room that there is for it.
    fn decode(&self, message: Message, room: RoomToDecode) -> Decoded {
        let long = takes_long(&message);
        let limit = |task: &str| self.registry.argument_limit(task);
        match room {
            Ok(room) => (unpaused(long, || Request::decode(message, limit)), room),
            Err(refusal) => {
                let undecodable = Undecodable::new(message, refusal);
                (Err(Box::new(undecodable)), Taken::default())
            }
        }
    }

    /// Room for what a message is decoded to, as soon as there is some. A compressed one is inflated to know how much that
    /// is, and again then: while it waits nothing is there but the message.
    async fn room_to_decode(&self, message: &Message) -> RoomToDecode {
        let budget = self.registry.budget();
        let task_limit = |task: &str| self.registry.argument_limit(task);
        let inflated = budget
            .decoded()
            .take(memory_to_inflate(message, task_limit));
        let inflated = inflated.await;
        let memory = unpaused(takes_long(message), || {
            memory_to_decode(message, task_limit)
        });
        drop(inflated);
        let limit = budget.most_decoded();
        if memory > limit {
            return Err(Refusal::TooMuchMemory { memory, limit });
        }
        Ok(budget.decoded().take(memory).await)
    }

    /// A name counts only where a module has it: senders may write any.
    fn labels(&self, message: &Message, source: &Source) -> TaskLabels {
        let task = message.headers.get("task").and_then(Value::as_str);
        let task = task.and_then(|task| self.registry.task(task));
        let name = task.as_ref().map(|task| task.name.as_str());
        self.status.metrics.labels(name, &source.queue)
    }

    /// Decides whether a message is run. One that was lost too often is not: the next loss would be the last, as
    /// the broker drops it then.
    fn admit(&self, received: Result<Request, Box<Undecodable>>) -> Admitted {
        let request = match received {
            Ok(request) => request,
            Err(undecodable) => return Admitted::Not(NotRun::Quarantine(undecodable)),
        };
        let (count, limit) = (request.message.deliveries_lost(), self.delivery_limit);
        if count >= limit {
            return Admitted::Not(NotRun::Refuse {
                request: Box::new(request),
                refusal: Refusal::WorkerLost { count, limit },
            });
        }
        unpaused(takes_long(&request.message), || {
            let sent_limit = self.servers.policy.sent_limit;
            admit(request, &self.registry, sent_limit, Timestamp::now())
        })
    }
}

impl<'a> Journey<'a> {
    /// Takes the message of a run to its end.
    async fn go(&self, key: RunKey, message: Message, delivery: Delivery, slot: Slot) {
        let Some(Arrived {
            admitted,
            delivery,
            turn,
            places,
            room: _room,
        }) = Box::pin(self.arrive(key, message, delivery, slot)).await
        else {
            return;
        };
        match admitted {
            Admitted::Run(ready) => Box::pin(self.run(*ready, delivery, turn, places)).await,
            Admitted::Not(not_run) => {
                drop(places);
                Box::pin(self.decline(not_run, delivery, turn)).await;
            }
        }
    }

    /// Takes a message to where it runs, or is known not to. None where its delivery ends here: an earlier one of the
    /// run came to an end, in this process or in whichever has committed it; or it is to come again. It is decoded only
    /// when no end is known: limits may have become lower since.
    async fn arrive(
        &self,
        key: RunKey,
        message: Message,
        delivery: Delivery,
        mut slot: Slot,
    ) -> Option<Arrived<'a>> {
        let mut turn = self.turn(key, &delivery, &mut slot).await?;
        match self.earlier(&message, &delivery, &mut turn).await? {
            Earlier::Nothing => {}
            earlier => {
                Box::pin(self.end_as(earlier, message, delivery, turn, slot)).await;
                return None;
            }
        }
        let (admitted, room) = self.admitted(message, &delivery, &mut slot).await?;
        let (module_turn, admitted, room) = self
            .module_turn(admitted, room, &delivery, &mut slot)
            .await?;
        delivery.usable().then_some(Arrived {
            admitted,
            delivery,
            turn,
            places: (slot, module_turn),
            room,
        })
    }

    /// Decodes a message, as soon as there is room for that, and decides whether it is run.
    async fn admitted(
        &self,
        message: Message,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<(Admitted, Taken)> {
        let room = self.pipeline.room_to_decode(&message);
        let room = self.have(room, delivery, slot).await?;
        let (received, room) = self.pipeline.decode(message, room);
        Some((self.pipeline.admit(received), room))
    }

    /// Waits until no other delivery of the same run is under way in this process.
    async fn turn(&self, key: RunKey, delivery: &Delivery, slot: &mut Slot) -> Option<Turn<'a>> {
        self.have(self.pipeline.runs.turn(key), delivery, slot)
            .await
    }

    /// What earlier deliveries of the run came to, in this process or in whichever has committed it. None
    /// where that can't be told any more: the delivery's connection is gone, or the worker is told to stop.
    async fn earlier(
        &self,
        message: &Message,
        delivery: &Delivery,
        turn: &mut Turn<'_>,
    ) -> Option<Earlier> {
        let before = turn.before(Timestamp::now());
        match before.filter(|_| delivery.redelivered) {
            None => {}
            Some(Before::Settled(settle)) => return Some(Earlier::Settled(settle)),
            Some(Before::Ended) => {
                let reason = "an earlier delivery has run".to_owned();
                return Some(Earlier::NotCarriedOut(reason));
            }
        }
        // A task whose sender wants no result has a commit only where it sends messages, which is not worth a question
        // for each.
        let servers = &self.pipeline.servers;
        if message.ignores_result() && !delivery.redelivered {
            if servers.takes_no_results() {
                let committed = servers.committed(turn.key());
                drop(self.pipeline.worth_it(committed, delivery).await?);
            }
            turn.replaces = true;
            return Some(Earlier::Nothing);
        }
        let committed = servers.committed(turn.key());
        Some(match self.pipeline.worth_it(committed, delivery).await? {
            // Somebody has moved a message back that was rejected: it is to run again.
            Ok(Some(commit)) if commit.settle == Settle::Reject && !delivery.redelivered => {
                turn.replaces = true;
                Earlier::Nothing
            }
            Ok(Some(commit)) => Earlier::Committed(commit),
            Ok(None) => Earlier::Nothing,
            Err(error) => {
                // What is no record is in nobody's way.
                turn.replaces = true;
                Earlier::NotCarriedOut(causes(&error))
            }
        })
    }

    /// Waits for a turn among the tasks of the request's module, where not all of them may run at once. A
    /// version that has become active meanwhile may have turns of its own: then it waits for one of those. After a
    /// wait it is admitted anew: it may have expired, or have another version now. `room`: what it is decoded in, which it
    /// does not keep meanwhile.
    async fn module_turn(
        &self,
        mut admitted: Admitted,
        mut room: Taken,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<(Option<OwnedSemaphorePermit>, Admitted, Taken)> {
        loop {
            let ready = match admitted {
                Admitted::Run(ready) => ready,
                not @ Admitted::Not(_) => return Some((None, not, room)),
            };
            let task = Arc::clone(&ready.task);
            let mut turn = pin!(task.turn());
            if let Poll::Ready(turn) = futures::poll!(turn.as_mut()) {
                return Some((turn, Admitted::Run(ready), room));
            }
            let message = into_message(*ready);
            drop(room);
            let turn = self.wait(turn, delivery, slot).await?;
            let again = self.admitted(message, delivery, slot).await?;
            match again {
                (Admitted::Run(ready), anew) if !ready.task.shares_turns(&task) => {
                    admitted = Admitted::Run(ready);
                    room = anew;
                }
                (again, anew) => return Some((turn, again, anew)),
            }
        }
    }

    /// What there is already, or a [wait](Self::wait) for it.
    async fn have<T>(
        &self,
        what: impl Future<Output = T>,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<T> {
        let mut what = pin!(what);
        match futures::poll!(what.as_mut()) {
            Poll::Ready(had) => Some(had),
            Poll::Pending => self.wait(what, delivery, slot).await,
        }
    }

    /// Waits without a slot, so that what waits keeps nobody from running; with nothing but the message, since what it
    /// decodes to is much larger. How many wait is bounded by the prefetch.
    async fn wait<T>(
        &self,
        what: impl Future<Output = T>,
        delivery: &Delivery,
        slot: &mut Slot,
    ) -> Option<T> {
        let what = slot.leave_for(what);
        self.pipeline.worth_it(what, delivery).await
    }

    /// Runs a request, and what follows from it. The slot is given back as soon as there is room for what follows: storing
    /// and publishing need none, but while servers are away no more tasks are begun than their plans have room for.
    async fn run<P>(&self, ready: Ready, delivery: Delivery, mut turn: Turn<'_>, places: P) {
        task_log::received(&ready.request);
        // Its memory is kept until the delivery is settled.
        let task = Arc::clone(&ready.task);
        let (request, ran, told, mut memory) = match self.call(ready, &turn).await {
            Ok(called) => called,
            Err((request, fault)) => {
                drop(places);
                return self.not_run(request, task, fault, delivery, turn).await;
            }
        };
        task.awaits_host.store(false, Ordering::Relaxed);
        let long = told.long || takes_long(&request.message);
        let planning = match self.planning(long).await {
            Ok(planning) => planning,
            Err(fault) => {
                turn.not_carried_out();
                return self.unsettled(&fault);
            }
        };
        let plan = unpaused(long, || {
            let policy = &self.pipeline.servers.policy;
            plan(&request, ran, &self.source, policy, Timestamp::now())
        });
        memory.is_planned();
        let room = self.room_after(&request, &plan).await;
        drop((planning, places));
        let Ok(room) = room else {
            turn.not_carried_out();
            return self.unsettled(&Fault::ColdShutdown);
        };
        // Where another worker may have it by now, its end is not in the way of that one's.
        turn.replaces &= !request.ignore_result || delivery.usable();
        let carrying = self.carry_out(plan, &request, &turn, room);
        let (settle, ended) = match Box::pin(carrying).await {
            Ok(carried) => carried,
            Err(fault) => {
                turn.not_carried_out();
                return self.unsettled(&fault);
            }
        };
        // "Done" is said after the ack. Where that is lost the next delivery is acked without a word.
        self.settle(settle, delivery, turn).await;
        if let Some(ended) = ended {
            self.pipeline
                .status
                .metrics
                .ended(&self.labels, &ended, &told);
            task_log::ended(&request, &ended, &told);
        }
    }

    /// A large plan is made beside few others, as long as it has no room: it may take much more than it tells before.
    async fn planning(&self, long: bool) -> Result<Option<SemaphorePermit<'_>>, Fault> {
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

    /// Room for so many bytes of a plan, until it is carried out.
    async fn room(&self, bytes: usize) -> Result<Taken, Fault> {
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
    async fn room_after(&self, request: &Request, plan: &Plan) -> Result<Taken, Fault> {
        let mut room = pin!(self.room(plan.memory()));
        match futures::poll!(room.as_mut()) {
            Poll::Ready(room) => room,
            Poll::Pending => {
                task_log::awaits_room(request);
                room.await
            }
        }
    }

    /// Calls the export in a fresh sandbox, and stores the states that the task sets meanwhile.
    async fn call(
        &self,
        ready: Ready,
        turn: &Turn<'_>,
    ) -> Result<(Request, Ran, Told, RunMemory), (Box<Request>, Fault)> {
        let Ready {
            request,
            task,
            arguments,
            limits,
            retry,
        } = ready;
        let Pipeline {
            servers, status, ..
        } = self.pipeline;
        let _active = status.metrics.started(&self.labels);
        let (progress, updates) = watch::channel(None);
        let (context, granted) = (context(&request), &task.grants.granted);
        let call = task
            .task
            .call(arguments, context, limits, granted, &progress);
        let told = (!turn.replaces).then(|| turn.key());
        let run = tokio::select! {
            run = call => run.map_err(Fault::from),
            never = store_progress(updates, &request, told, &self.source, servers) => match never {},
            () = servers.shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
        };
        let run: Run = match run {
            Ok(run) => run,
            Err(fault) => return Err((Box::new(request), fault)),
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
        Ok((request, ran, told, run.memory))
    }
}

/// The message that a request came in; everything else is gone.
fn into_message(ready: Ready) -> Message {
    ready.request.message
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
