//! A message's way to where it runs: what it waits for, without a slot and with nothing but itself.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use petiole_broker::Receipt;
use petiole_celery::plan::Settle;
use petiole_celery::{
    Commit, Message, Refusal, Request, Undecodable, memory_to_decode, memory_to_inflate,
};
use petiole_runtime::{Taken, is_long, off_the_executor};
use tokio::sync::OwnedSemaphorePermit;

use super::state::{Journey, Left, Pipeline};
use crate::admit::{Admitted, NotRun, admit};
use crate::catalog::active::Found;
use crate::catalog::registered::RegisteredTask;
use crate::causes::causes;
use crate::shutdown::Stage;
use crate::turns::runs::{Before, Turn};
use crate::turns::slot::Slot;

/// A request that runs, or is known not to.
pub(super) struct Arrived {
    pub(super) admitted: Admitted,
    /// Its places to run: among all tasks, and among those of its module.
    pub(super) places: (Slot, Option<OwnedSemaphorePermit>),
    /// For what its message is decoded to.
    pub(super) room: Taken,
}

/// Memory for decoding a message, unless that takes more than there is for one.
type RoomToDecode = Result<Taken, Refusal>;

/// A message that was decoded.
type Decoded = Result<Request, Box<Undecodable>>;

/// The end that earlier deliveries of a run came to.
pub(super) enum Earlier {
    /// All is out, and only the ack was lost.
    Settled(Settle),
    Committed(Commit<'static>),
    /// It must not run, for this reason.
    NotCarriedOut(String),
}

impl Pipeline {
    /// The task of a message, where it answers here. One that is not known is asked for in the catalog, without a slot: it
    /// may have been installed by now.
    pub(super) async fn sought(
        &self,
        message: &Message,
        receipt: &Receipt,
        slot: &mut Slot,
    ) -> Result<Option<Arc<RegisteredTask>>, Left> {
        let Some(name) = message.task() else {
            return Ok(None);
        };
        let known = self.registry.task(&name);
        if known.is_some() {
            return Ok(known);
        }
        let seek = slot.leave_for(self.registry.seek(&name));
        if !self.worth_it(seek, receipt).await? {
            return Err(Left::NoModule);
        }
        Ok(self.registry.task(&name))
    }

    /// Waits as long as that is of use: until the delivery's connection is gone, or the worker is told to stop.
    async fn worth_it<T>(
        &self,
        what: impl Future<Output = T>,
        receipt: &Receipt,
    ) -> Result<T, Left> {
        tokio::select! {
            biased;
            had = what => Ok(had),
            () = receipt.gone() => Err(Left::Gone),
            () = self.servers.shutdown.reached(Stage::Warm) => Err(Left::Stopping),
        }
    }

    /// The task of a message, as far as the catalog was read.
    fn found(&self, message: &Message) -> Found {
        let name: Cow<'_, str> = message.task().unwrap_or_default();
        self.registry.find(&name)
    }

    /// Room for what a message is decoded to, as soon as there is some. A compressed one is inflated to know how much that
    /// is, and again then: while it waits nothing is there but the message.
    async fn room_to_decode(&self, message: &Message, limit: usize) -> RoomToDecode {
        let budget = self.registry.budget();
        let inflated = memory_to_inflate(message, |_| limit);
        let inflated = budget.decoded().take(inflated).await;
        let memory = off_the_executor(takes_long(message), || memory_to_decode(message, |_| limit));
        drop(inflated);
        let limit = budget.most_decoded();
        if memory > limit {
            return Err(Refusal::TooMuchMemory { memory, limit });
        }
        Ok(budget.decoded().take(memory).await)
    }

    /// Decides whether a message is run. One that was lost too often is not: the next loss would be the last, as
    /// the broker drops it then.
    fn admit(&self, decoded: Decoded, found: Found) -> Admitted {
        let request = match decoded {
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
        off_the_executor(takes_long(&request.message), || {
            let sent_limit = self.servers.policy.sent_limit;
            admit(request, found, sent_limit, Timestamp::now())
        })
    }
}

impl Journey<'_> {
    /// The end that earlier deliveries of the run came to, in this process or in whichever has committed it.
    pub(super) async fn earlier(
        &self,
        message: &Message,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Earlier>, Left> {
        let before = turn.before(Timestamp::now());
        match before.filter(|_| self.redelivered) {
            None => {}
            Some(Before::Settled(settle)) => return Ok(Some(Earlier::Settled(settle))),
            Some(Before::Ended) => {
                let reason = "an earlier delivery has run".to_owned();
                return Ok(Some(Earlier::NotCarriedOut(reason)));
            }
        }
        // A task whose sender wants no result has a commit only where it sends messages, which is not worth a question
        // for each.
        let servers = &self.pipeline.servers;
        if message.ignores_result() && !self.redelivered {
            if servers.takes_no_results() {
                drop(self.worth_it(servers.committed(turn.key())).await?);
            }
            turn.replaces = true;
            return Ok(None);
        }
        Ok(match self.worth_it(servers.committed(turn.key())).await? {
            // Somebody has moved a message back that was rejected: it is to run again.
            Ok(Some(commit)) if commit.settle == Settle::Reject && !self.redelivered => {
                turn.replaces = true;
                None
            }
            Ok(commit) => commit.map(Earlier::Committed),
            Err(error) => {
                // Something that is no record is in nobody's way.
                turn.replaces = true;
                Some(Earlier::NotCarriedOut(causes(&error)))
            }
        })
    }

    /// Takes a message to where it runs, or is known not to.
    pub(super) async fn arrive(&self, message: Message, mut slot: Slot) -> Result<Arrived, Left> {
        let (admitted, room) = self.admitted(message, &mut slot).await?;
        let (module_turn, admitted, room) = self.module_turn(admitted, room, &mut slot).await?;
        if !self.receipt.usable() {
            return Err(Left::Gone);
        }
        Ok(Arrived {
            admitted,
            places: (slot, module_turn),
            room,
        })
    }

    /// Decodes a message, as soon as there is room for that, and decides whether it is run. Its task is looked up after
    /// the wait: it may have another version since.
    async fn admitted(&self, message: Message, slot: &mut Slot) -> Result<(Admitted, Taken), Left> {
        let limit = self
            .pipeline
            .registry
            .argument_limit(&self.pipeline.found(&message));
        let room = self.pipeline.room_to_decode(&message, limit);
        let room = self.have(room, slot).await?;
        let found = self.pipeline.found(&message);
        let (decoded, room) = decode(message, limit, room);
        Ok((self.pipeline.admit(decoded, found), room))
    }

    /// Decodes a message that is not run, as soon as there is room for that.
    pub(super) async fn decoded(&self, message: Message) -> Result<(Decoded, Taken), Left> {
        let found = self.pipeline.found(&message);
        let limit = self.pipeline.registry.argument_limit(&found);
        let room = self.pipeline.room_to_decode(&message, limit);
        let room = self.worth_it(room).await?;
        Ok(decode(message, limit, room))
    }

    /// Waits for a turn among the tasks of the request's module, where not all of them may run at once. A
    /// version that has become active meanwhile may have turns of its own: then it waits for one of those. After a
    /// wait it is admitted anew: it may have expired, or have another version now. `room`: what it is decoded in, which it
    /// does not keep meanwhile.
    async fn module_turn(
        &self,
        mut admitted: Admitted,
        mut room: Taken,
        slot: &mut Slot,
    ) -> Result<(Option<OwnedSemaphorePermit>, Admitted, Taken), Left> {
        loop {
            let ready = match admitted {
                Admitted::Run(ready) => ready,
                not @ Admitted::Not(_) => return Ok((None, not, room)),
            };
            let task = Arc::clone(&ready.task);
            let mut turn = pin!(task.turn());
            if let Poll::Ready(turn) = futures::poll!(turn.as_mut()) {
                return Ok((turn, Admitted::Run(ready), room));
            }
            let message = ready.into_message();
            drop(room);
            let turn = self.wait(turn, slot).await?;
            match self.admitted(message, slot).await? {
                (Admitted::Run(ready), anew) if !ready.task.shares_turns(&task) => {
                    admitted = Admitted::Run(ready);
                    room = anew;
                }
                (again, anew) => return Ok((turn, again, anew)),
            }
        }
    }

    /// The value that is there already, or a [wait](Self::wait) for it.
    pub(super) async fn have<T>(
        &self,
        what: impl Future<Output = T>,
        slot: &mut Slot,
    ) -> Result<T, Left> {
        let mut what = pin!(what);
        match futures::poll!(what.as_mut()) {
            Poll::Ready(had) => Ok(had),
            Poll::Pending => self.wait(what, slot).await,
        }
    }

    /// Waits without a slot, so that what waits keeps nobody from running; with nothing but the message, since what it
    /// decodes to is much larger. How many wait is bounded by the prefetch.
    async fn wait<T>(&self, what: impl Future<Output = T>, slot: &mut Slot) -> Result<T, Left> {
        self.worth_it(slot.leave_for(what)).await
    }

    /// As [`Pipeline::worth_it`] has it.
    pub(super) async fn worth_it<T>(&self, what: impl Future<Output = T>) -> Result<T, Left> {
        self.pipeline.worth_it(what, &self.receipt).await
    }
}

/// Decodes a message in the room that there is for it.
fn decode(message: Message, limit: usize, room: RoomToDecode) -> (Decoded, Taken) {
    match room {
        Ok(room) => {
            let decoded =
                off_the_executor(takes_long(&message), || Request::decode(message, |_| limit));
            (decoded, room)
        }
        Err(refusal) => {
            let undecodable = Undecodable::new(message, refusal);
            (Err(Box::new(undecodable)), Taken::default())
        }
    }
}

/// True of a message that takes long to decode; a compressed one may be small.
pub(super) fn takes_long(message: &Message) -> bool {
    is_long(message.body.len()) || message.headers.contains_key("compression")
}
