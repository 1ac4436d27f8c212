//! Settles the deliveries of one channel.
//!
//! Acks that wait while earlier ones are written go out together: one frame with `multiple` for the
//! contiguous run of finished deliveries, one frame each for those beyond it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Unsettled;
use crate::delivery::{Answer, Settlement, Settlements, Verdict};

/// Settlements that are written at once.
const BATCH: usize = 1024;
/// Time for which a delivery that was given back is kept from its queue.
const PAUSE: Duration = Duration::from_secs(1);

/// Interval for checking the channel, should nothing be written to it.
const LOOK: Duration = Duration::from_millis(500);

/// The settled delivery tags of a channel. Tags count up from 1, without gaps (AMQP 0-9-1 section 1.8.3.13).
#[derive(Debug)]
struct Ledger {
    /// The lowest tag that is not settled.
    floor: u64,
    /// Settled ones above it; no more than the prefetch.
    beyond: BTreeSet<u64>,
}

impl Ledger {
    fn new() -> Self {
        Self {
            floor: 1,
            beyond: BTreeSet::new(),
        }
    }

    fn settled(&mut self, tag: u64) {
        self.beyond.insert(tag);
        while self.beyond.remove(&self.floor) {
            self.floor += 1;
        }
    }

    /// The acks for finished deliveries, as (tag, multiple). Rejected ones and those given back must be noted, and
    /// written, before: an ack with `multiple` covers every tag up to its own that the broker still counts as unacked.
    fn acks(&mut self, tags: &[u64]) -> Vec<(u64, bool)> {
        for tag in tags {
            self.settled(*tag);
        }
        let (within, beyond): (Vec<u64>, Vec<u64>) =
            tags.iter().partition(|tag| **tag < self.floor);
        let run = within.iter().max().map(|last| (*last, within.len() > 1));
        run.into_iter()
            .chain(beyond.into_iter().map(|tag| (tag, false)))
            .collect()
    }
}

/// Settlements to write, as they came.
#[derive(Default)]
struct Batch {
    rejects: Vec<u64>,
    /// Given back to their queue.
    returned: Vec<u64>,
    acks: Vec<u64>,
    answers: Vec<Answer>,
}

/// State of a channel's deliveries.
struct Settler {
    ledger: Ledger,
    /// Given back, with the time that they go.
    paused: VecDeque<(Instant, u64)>,
    /// True while somebody reads them.
    read: bool,
    /// True once the broker has ended their consumer.
    ended: bool,
}

/// Begins to settle a channel's deliveries: one settlement for each that is held, so no more than the prefetch. It ends
/// with the last delivery or the channel, whichever comes first, and nobody waits for that. `kept` is dropped when the
/// channel is closed.
pub(super) fn start(
    channel: Channel,
    gone: CancellationToken,
    kept: impl Send + 'static,
) -> Settlements {
    let (settlements, inbox) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        settle(channel, inbox, gone).await;
        drop(kept);
    });
    settlements
}

/// Settles until nobody can ask for it any more, or the channel is gone; then `gone` is cancelled.
async fn settle(
    channel: Channel,
    mut inbox: mpsc::UnboundedReceiver<Settlement>,
    gone: CancellationToken,
) {
    let mut settler = Settler {
        ledger: Ledger::new(),
        paused: VecDeque::new(),
        read: true,
        ended: false,
    };
    let mut look = interval(LOOK);
    let mut received = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            count = inbox.recv_many(&mut received, BATCH) => {
                if count == 0 {
                    break;
                }
            }
            () = until_due(&settler.paused) => {}
            _ = look.tick() => {
                if !channel.status().connected() {
                    break;
                }
            }
            () = gone.cancelled() => break,
        }
        let batch = settler.batch(&mut received, Instant::now());
        if let Err(error) = write(&channel, &mut settler, batch).await {
            debug!(%error, "deliveries can't be settled: the channel is gone");
            break;
        }
    }
    gone.cancel();
    super::channel::close(&channel).await;
}

impl Settler {
    /// Collects what is to be written for these, and for the deliveries that are due to go back.
    fn batch(&mut self, received: &mut Vec<Settlement>, now: Instant) -> Batch {
        let mut batch = Batch::default();
        for settlement in received.drain(..) {
            match settlement {
                Settlement::Verdict(tag, verdict, answer) => {
                    match verdict {
                        Verdict::Ack => batch.acks.push(tag),
                        Verdict::Reject => batch.rejects.push(tag),
                    }
                    batch.answers.push(answer);
                }
                Settlement::GivenBack(tag) => self.paused.push_back((now + PAUSE, tag)),
                Settlement::GivenBackAtOnce(tag) => batch.returned.push(tag),
                Settlement::ReaderGone => self.read = false,
                Settlement::ConsumerEnded => self.ended = true,
            }
        }
        let read = self.read;
        while let Some((_, tag)) = self.paused.pop_front_if(|(due, _)| !read || *due <= now) {
            batch.returned.push(tag);
        }
        batch
    }
}

async fn until_due(paused: &VecDeque<(Instant, u64)>) {
    match paused.front() {
        Some((due, _)) => sleep_until(*due).await,
        None => std::future::pending().await,
    }
}

async fn write(channel: &Channel, settler: &mut Settler, batch: Batch) -> lapin::Result<()> {
    let written = write_frames(channel, &mut settler.ledger, &batch).await;
    let settled = match &written {
        Ok(()) if settler.ended => Err(Unsettled::unknown()),
        Ok(()) => Ok(()),
        Err(error) => Err(Unsettled {
            reason: error.to_string(),
        }),
    };
    for answer in batch.answers {
        // One who no longer waits does not need to know.
        let _ = answer.send(settled.clone());
    }
    written
}

async fn write_frames(channel: &Channel, ledger: &mut Ledger, batch: &Batch) -> lapin::Result<()> {
    let reject = |tag: u64| channel.basic_reject(tag, BasicRejectOptions { requeue: false });
    try_join_all(batch.rejects.iter().copied().map(reject)).await?;
    // Not by a reject, which since RabbitMQ 4.3 is the one of the two that a quorum queue counts as a loss.
    let give_back = |tag: u64| {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        channel.basic_nack(tag, options)
    };
    try_join_all(batch.returned.iter().copied().map(give_back)).await?;
    for tag in batch.rejects.iter().chain(&batch.returned) {
        ledger.settled(*tag);
    }
    let ack = |(tag, multiple): (u64, bool)| channel.basic_ack(tag, BasicAckOptions { multiple });
    try_join_all(ledger.acks(&batch.acks).into_iter().map(ack)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn multiple_covers_only_the_finished_run() {
        let mut ledger = Ledger::new();
        assert_eq!(ledger.acks(&[1]), [(1, false)]);
        assert_eq!(ledger.acks(&[4, 3]), [(4, false), (3, false)]);
        assert_eq!(ledger.acks(&[2, 5, 7]), [(5, true), (7, false)]);
        ledger.settled(6);
        assert_eq!(ledger.acks(&[8]), [(8, false)]);
        assert_eq!(ledger.floor, 9);
        assert!(ledger.beyond.is_empty());
    }

    proptest! {
        /// Against what the broker would do: no tag is ever acked that was not in a batch, and each is.
        #[test]
        fn exactly_the_finished_are_acked(order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(), sizes in prop::collection::vec(1..9_usize, 60)) {
            let mut ledger = Ledger::new();
            let mut unacked: BTreeSet<u64> = (1..=60).collect();
            let mut rest = order.as_slice();
            for size in sizes {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                let (rejects, acks): (Vec<u64>, Vec<u64>) = batch.iter().partition(|tag| *tag % 7 == 0);
                for tag in rejects {
                    ledger.settled(tag);
                    unacked.remove(&tag);
                }
                for (tag, multiple) in ledger.acks(&acks) {
                    let covered: Vec<u64> =
                        if multiple { unacked.range(..=tag).copied().collect() } else { vec![tag] };
                    for tag in covered {
                        prop_assert!(unacked.remove(&tag), "{tag} acked twice");
                    }
                }
                let open: BTreeSet<u64> = rest.iter().copied().collect();
                prop_assert_eq!(&unacked, &open);
            }
        }
    }
}
