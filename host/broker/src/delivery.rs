use std::future::poll_fn;
use std::task::Poll;

use petiole_celery::Message;
use petiole_celery::plan::Source;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::memory::Held;

/// A message that was delivered, and the receipt to settle it with.
#[derive(Debug)]
pub struct Delivery {
    /// As it came.
    pub message: Message,
    /// Exchange, routing key and queue that it came by.
    pub source: Source,
    /// Delivered before, perhaps: a hint.
    pub redelivered: bool,
    /// The right to settle it.
    pub receipt: Receipt,
}

/// The right to settle one delivery: once, last, by consuming it; and the memory that is held for it.
#[derive(Debug)]
#[must_use = "a delivery is acked, rejected or given back"]
pub struct Receipt {
    tag: u64,
    settlements: Option<Settlements>,
    gone: CancellationToken,
    _held: Option<Held>,
}

/// The delivery's connection or consumer is gone: the broker has given the message back to its queue, or may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the delivery could not be settled: {reason}")]
pub struct Unsettled {
    /// The reason.
    pub reason: String,
}

impl Unsettled {
    pub(crate) fn gone() -> Self {
        Self {
            reason: "its connection is gone".to_owned(),
        }
    }

    pub(crate) fn unknown() -> Self {
        Self {
            reason: "the broker has ended its consumer, and may have given it back before"
                .to_owned(),
        }
    }
}

impl Receipt {
    pub(crate) fn new(
        tag: u64,
        settlements: Settlements,
        gone: CancellationToken,
        held: Option<Held>,
    ) -> Self {
        Self {
            tag,
            settlements: Some(settlements),
            gone,
            _held: held,
        }
    }

    /// True while its connection stands, so that the delivery is worth running.
    pub fn usable(&self) -> bool {
        !self.gone.is_cancelled()
    }

    /// Ends when its connection is gone, so that nothing is worth doing for the delivery any more.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// The message is done with. AMQP does not answer an ack: ok means written to a live connection.
    ///
    /// # Errors
    /// If the broker can't have got it.
    pub async fn ack(self) -> Result<(), Unsettled> {
        self.settle(Verdict::Ack).await
    }

    /// Dead-lettered, or dropped where the queue has no dead-letter exchange.
    ///
    /// # Errors
    /// If the broker can't have got it.
    pub async fn reject(self) -> Result<(), Unsettled> {
        self.settle(Verdict::Reject).await
    }

    /// Back to its queue a second later, so that a fault of the host that repeats itself is no hot loop; at once where
    /// its `Deliveries` are gone, or the connection is.
    pub fn give_back(mut self) {
        self.send(Settlement::GivenBack);
    }

    /// Back to its queue at once.
    pub(crate) fn give_back_at_once(mut self) {
        self.send(Settlement::GivenBackAtOnce);
    }

    fn send(&mut self, settlement: fn(u64) -> Settlement) {
        if let Some(settlements) = self.settlements.take() {
            // Without a receiver the connection is gone, and the broker has the message back.
            let _ = settlements.send(settlement(self.tag));
        }
    }

    async fn settle(mut self, verdict: Verdict) -> Result<(), Unsettled> {
        let Some(settlements) = self.settlements.take() else {
            return Err(Unsettled::gone());
        };
        if self.gone.is_cancelled() {
            return Err(Unsettled::gone());
        }
        let (answer, settled) = oneshot::channel();
        settlements
            .send(Settlement::Verdict(self.tag, verdict, answer))
            .map_err(|_| Unsettled::gone())?;
        settled.await.unwrap_or_else(|_| Err(Unsettled::gone()))
    }
}

/// For undecided deliveries: one that no reader has taken, or whose task panicked.
impl Drop for Receipt {
    fn drop(&mut self) {
        self.send(Settlement::GivenBack);
    }
}

/// A decision that ends a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Reject,
}

/// Channel for a settlement's result.
pub(crate) type Answer = oneshot::Sender<Result<(), Unsettled>>;

/// A message to the task that settles a consumer's deliveries.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// A verdict; answered once it is carried out.
    Verdict(u64, Verdict, Answer),
    /// To come again after a pause.
    GivenBack(u64),
    /// To come again at once.
    GivenBackAtOnce(u64),
    /// Nobody reads the consumer any more: what is dropped from now on goes back at once.
    ReaderGone,
    /// The broker has ended the consumer: what it may have given back by itself is not known to be settled any more.
    ConsumerEnded,
}

/// Unbounded in type only: each delivery is settled once, so it never holds more than the prefetch.
pub(crate) type Settlements = mpsc::UnboundedSender<Settlement>;

/// Deliveries of one or more queues, in fair order.
///
/// Dropping it ends the consumers, and gives back what was prefetched; deliveries that were handed
/// out can still be settled.
#[derive(Debug)]
pub struct Deliveries {
    queues: Vec<mpsc::Receiver<Delivery>>,
    turn: usize,
}

impl Deliveries {
    pub(crate) fn new(queues: Vec<mpsc::Receiver<Delivery>>) -> Self {
        Self { queues, turn: 0 }
    }

    /// The next one; none after the broker was closed. One whose connection is gone is passed over.
    /// May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.next_of_any().await?;
            if delivery.receipt.usable() {
                return Some(delivery);
            }
        }
    }

    async fn next_of_any(&mut self) -> Option<Delivery> {
        poll_fn(|context| {
            let count = self.queues.len();
            let mut ended = 0;
            for offset in 0..count {
                let index = (self.turn + offset) % count;
                let Some(queue) = self.queues.get_mut(index) else {
                    continue;
                };
                match queue.poll_recv(context) {
                    Poll::Ready(Some(delivery)) => {
                        self.turn = index + 1;
                        return Poll::Ready(Some(delivery));
                    }
                    Poll::Ready(None) => ended += 1,
                    Poll::Pending => {}
                }
            }
            if ended == count {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
