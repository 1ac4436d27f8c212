//! Consumes one queue of the file. Settling and fetching share a transaction.

use std::sync::Arc;
use std::time::Duration;

use petiole_celery::plan::Source;
use petiole_storage::sqlite::rusqlite::Connection;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::file::File;
use super::messages::{self, End, Taken};
use crate::delivery::{Answer, Receipt, Settlement, Settlements, Verdict};
use crate::memory::Share;
use crate::said::Said;
use crate::{BrokerError, Delivery, Unsettled};

/// Interval for renewing the lease; the others take a consumer for dead after several times that.
const RENEWAL: Duration = Duration::from_secs(2);
/// Interval for checking the file for messages of other processes, and for those whose time has come.
const LOOK: Duration = Duration::from_millis(100);
/// Milliseconds for which a delivery that was given back is kept from its queue.
const PAUSE: i64 = 1000;
/// Settlements in one transaction.
const BATCH: usize = 1024;

/// A consumer of one queue, under an id of its own; a new one when it has lost its lease.
pub(super) struct Consumer {
    file: File,
    queue: String,
    prefetch: usize,
    /// Its messages' share of the memory; none if the queue is looked through.
    share: Option<Arc<Share>>,
    out: mpsc::Sender<Delivery>,
    /// Rises with each message published in this process.
    published: watch::Receiver<u64>,
    closing: CancellationToken,
    id: String,
    gone: CancellationToken,
    unsettled: usize,
    said: Said,
}

impl Consumer {
    pub(super) async fn start(
        file: File,
        queue: String,
        prefetch: u16,
        share: Option<Arc<Share>>,
        out: mpsc::Sender<Delivery>,
        published: watch::Receiver<u64>,
        closing: CancellationToken,
    ) -> Result<Self, BrokerError> {
        let id = new_lease(&file).await?;
        let gone = closing.child_token();
        Ok(Self {
            file,
            queue,
            prefetch: usize::from(prefetch),
            share,
            out,
            published,
            closing,
            id,
            gone,
            unsettled: 0,
            said: Said::default(),
        })
    }

    /// Runs until nobody reads and all is settled, or the broker is closed.
    pub(super) async fn run(mut self) {
        loop {
            let lost = self.run_lease().await;
            self.gone.cancel();
            if !lost || self.out.is_closed() {
                break;
            }
            let mut pause = LOOK;
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.closing.cancelled() => return,
                }
                match self.begin_lease().await {
                    Ok(()) => break,
                    Err(error) => self.fails(&error),
                }
                pause = RENEWAL;
            }
        }
        self.release().await;
    }

    /// Hands out what is ready, one at a time, each as it is asked for; then runs until all is settled, its lease is
    /// lost or the broker is closed.
    pub(super) async fn run_through(mut self) {
        let (settlements, mut inbox) = mpsc::unbounded_channel();
        let mut settlements = Some(settlements);
        let mut received = Vec::with_capacity(BATCH);
        let mut renewal = interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = async { self.out.reserve().await.is_ok() };
            let going_on = tokio::select! {
                count = inbox.recv_many(&mut received, BATCH) => {
                    let settled = std::mem::take(&mut received);
                    self.turn_for(0, settled, settlements.as_ref()).await.map(|()| count > 0)
                }
                asked = asked, if settlements.is_some() => {
                    let held = self.unsettled;
                    let fetched = self.turn_for(usize::from(asked), Vec::new(), settlements.as_ref()).await;
                    if self.unsettled == held {
                        // Nothing is left, or nobody asks: what is read ends with its sender.
                        settlements = None;
                        self.out = mpsc::channel(1).0;
                    }
                    fetched.map(|()| true)
                }
                _ = renewal.tick() => self.renew().await,
                () = self.closing.cancelled() => Ok(false),
            };
            match going_on {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fails(&error);
                    break;
                }
            }
        }
        self.gone.cancel();
        self.release().await;
    }

    /// Settles, and fetches `more` messages.
    async fn turn_for(
        &mut self,
        more: usize,
        settled: Vec<Settlement>,
        settlements: Option<&Settlements>,
    ) -> Result<(), BrokerError> {
        // Those that are settled leave no room for others.
        self.prefetch = self.unsettled.saturating_sub(settled.len()) + more;
        self.turn(settled, settlements).await
    }

    /// Gives back what is not settled.
    async fn release(self) {
        let id = self.id;
        if let Err(error) = self
            .file
            .write(move |connection| messages::release(connection, &id))
            .await
        {
            warn!(queue = self.queue, %error, "the messages go back when the lease ends");
        }
    }

    async fn begin_lease(&mut self) -> Result<(), BrokerError> {
        self.id = new_lease(&self.file).await?;
        self.gone = self.closing.child_token();
        self.unsettled = 0;
        Ok(())
    }

    /// Runs until the lease is lost (true), or there is nothing left to do.
    async fn run_lease(&mut self) -> bool {
        let (settlements, mut inbox) = mpsc::unbounded_channel();
        // Given up once nobody reads: then the inbox ends with the last delivery.
        let mut settlements = Some(settlements);
        let mut received = Vec::with_capacity(BATCH);
        let mut renewal = interval(RENEWAL);
        let mut look = interval(LOOK);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = settlements.is_some() && self.unsettled < self.prefetch;
            let turn = tokio::select! {
                count = inbox.recv_many(&mut received, BATCH) => {
                    if count == 0 {
                        return false;
                    }
                    self.turn(std::mem::take(&mut received), settlements.as_ref()).await
                }
                Ok(()) = self.published.changed(), if room => self.turn(Vec::new(), settlements.as_ref()).await,
                _ = look.tick(), if room => self.look(settlements.as_ref()).await,
                _ = renewal.tick() => match self.renew().await {
                    Ok(true) => Ok(()),
                    Ok(false) => {
                        warn!(queue = self.queue, "the consumer lost its lease: its messages went back");
                        return true;
                    }
                    Err(error) => Err(error),
                },
                () = self.out.closed(), if settlements.is_some() => {
                    settlements = None;
                    Ok(())
                }
                () = self.closing.cancelled() => return false,
            };
            if let Err(error) = turn {
                // Deliveries that were to be settled are not: the lease goes, and all of them come again.
                self.fails(&error);
                return true;
            }
        }
    }

    /// Warns once for each change, until something was written again.
    fn fails(&mut self, error: &BrokerError) {
        if self.said.is_news(error) {
            warn!(queue = self.queue, %error, "can't consume");
        } else {
            debug!(queue = self.queue, %error, "can't consume");
        }
    }

    async fn renew(&self) -> Result<bool, BrokerError> {
        let id = self.id.clone();
        self.file
            .write(move |connection| messages::renew(connection, &id))
            .await
    }

    async fn look(&mut self, settlements: Option<&Settlements>) -> Result<(), BrokerError> {
        let queue = self.queue.clone();
        if self
            .file
            .read(move |connection| messages::any_ready(connection, &queue))
            .await?
        {
            self.turn(Vec::new(), settlements).await?;
        }
        Ok(())
    }

    /// Settles, and fetches as many messages as there is room for then.
    async fn turn(
        &mut self,
        settled: Vec<Settlement>,
        settlements: Option<&Settlements>,
    ) -> Result<(), BrokerError> {
        let (ends, answers) = ends(settled, settlements.is_some());
        self.unsettled = self.unsettled.saturating_sub(ends.len());
        let room = if settlements.is_some() {
            self.prefetch.saturating_sub(self.unsettled)
        } else {
            0
        };
        // One transaction, as a rule; a fetch that fails undoes no settlement.
        let (held, taken) = tokio::join!(biased; self.settle(ends), self.take(room));
        for (place, answer) in answers.into_iter().enumerate() {
            let settled = match &held {
                Ok(held) if held.get(place).is_some_and(|held| *held) => Ok(()),
                Ok(_) => Err(Unsettled::gone()),
                Err(error) => Err(Unsettled {
                    reason: error.to_string(),
                }),
            };
            if let Some(answer) = answer {
                // One who no longer waits does not need to know.
                let _ = answer.send(settled);
            }
        }
        held?;
        let taken = taken?;
        self.said = Said::default();
        if let Some(settlements) = settlements {
            self.hand_out(taken, settlements);
        }
        Ok(())
    }

    /// Settles messages; true for each that the consumer still had.
    async fn settle(&self, ends: Vec<(i64, End)>) -> Result<Vec<bool>, BrokerError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let id = self.id.clone();
        let settle = move |connection: &Connection| {
            ends.into_iter()
                .map(|(message, end)| messages::end(connection, &id, message, end))
                .collect()
        };
        self.file.write(settle).await
    }

    async fn take(&self, room: usize) -> Result<Vec<Taken>, BrokerError> {
        if room == 0 {
            return Ok(Vec::new());
        }
        let (id, queue, share) = (self.id.clone(), self.queue.clone(), self.share.clone());
        self.file
            .write(move |connection| messages::take(connection, &queue, &id, room, share.as_ref()))
            .await
    }

    fn hand_out(&mut self, taken: Vec<Taken>, settlements: &Settlements) {
        self.unsettled += taken.len();
        for taken in taken {
            let receipt = Receipt::new(
                taken.id.cast_unsigned(),
                settlements.clone(),
                self.gone.clone(),
                taken.held,
            );
            let delivery = Delivery {
                message: taken.message,
                source: Source {
                    exchange: taken.destination.exchange,
                    routing_key: taken.destination.routing_key,
                    queue: self.queue.clone(),
                },
                redelivered: taken.redelivered,
                receipt,
            };
            // There is room for the prefetch. Where nobody reads, the delivery is dropped here, and goes back.
            let _ = self.out.try_send(delivery);
        }
    }
}

async fn new_lease(file: &File) -> Result<String, BrokerError> {
    let id = Uuid::new_v4().to_string();
    let leased = id.clone();
    file.write(move |connection| messages::lease(connection, &leased))
        .await?;
    Ok(id)
}

/// Ends for each of the messages, with those who wait for an answer. A delivery that was given back is held back only
/// while it would come to the same reader again.
fn ends(settled: Vec<Settlement>, read: bool) -> (Vec<(i64, End)>, Vec<Option<Answer>>) {
    let pause = if read { PAUSE } else { 0 };
    settled
        .into_iter()
        .filter_map(|settlement| match settlement {
            // A queue of the file has no dead-letter exchange.
            Settlement::Verdict(id, Verdict::Ack | Verdict::Reject, answer) => {
                Some((id, End::Removed, Some(answer)))
            }
            Settlement::GivenBack(id) => Some((id, End::Back { pause }, None)),
            Settlement::GivenBackAtOnce(id) => Some((id, End::Back { pause: 0 }, None)),
            Settlement::ReaderGone | Settlement::ConsumerEnded => None,
        })
        .map(|(id, end, answer)| ((id.cast_signed(), end), answer))
        .unzip()
}

#[cfg(test)]
mod tests;
