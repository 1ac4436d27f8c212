//! Messages that may end the worker, run alone.
//!
//! RabbitMQ's quorum queues count each delivery that ends without being settled, of all that a lost worker had
//! prefetched, and drop what has been lost too often (`x-delivery-limit`). So innocent neighbours of a task that
//! ends its workers would be dropped with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use petiole_broker::{BrokerError, Delivery, Terms};
use petiole_celery::RunKey;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::config::WorkerConfig;
use crate::pipeline::Pipeline;
use crate::turns::slot::Slots;

/// The part of the limit from which on a message is a suspect. Before, it may have been a neighbour.
const SHARE: u64 = 4;
/// Time for which a queue with messages is asked for one.
const LOOK: Duration = Duration::from_millis(500);

/// True of a message that may have ended the workers that ran it.
fn is_suspect(delivery: &Delivery, limit: u64) -> bool {
    delivery.message.deliveries_lost() >= (limit / SHARE).max(1)
}

/// The suspect that each queue had at its head last.
#[derive(Default)]
struct Seen(HashMap<String, RunKey>);

impl Seen {
    /// True where a queue's suspect is another one than before. The same one comes again where it did not end the worker,
    /// and could not be settled either: others need not wait for that to change.
    fn is_another(&mut self, queue: &str, run: Option<RunKey>) -> bool {
        match run {
            // It is no request, and is not run.
            None => true,
            Some(run) => self.0.insert(queue.to_owned(), run.clone()) != Some(run),
        }
    }
}

/// A worker that prefetches nothing.
pub(crate) struct OneByOne<'a> {
    pub(crate) pipeline: &'a Arc<Pipeline>,
    pub(crate) config: &'a WorkerConfig,
    pub(crate) slots: &'a Slots,
    pub(crate) journeys: &'a TaskTracker,
}

impl OneByOne<'_> {
    /// Runs suspects alone until none of the queues has another one at its head, which is where messages come back to. At
    /// a worker's start only: later it would have to give back what it has prefetched, which counts as a loss too.
    ///
    /// # Errors
    /// When the broker gives no answer.
    pub(crate) async fn run(&self) -> Result<(), BrokerError> {
        let mut seen = Seen::default();
        while self.round(&mut seen).await? {}
        Ok(())
    }

    /// Takes the message at the head of each queue, and says whether one of them was a suspect that it has not seen yet.
    async fn round(&self, seen: &mut Seen) -> Result<bool, BrokerError> {
        let mut suspects = false;
        // In another order each time: whichever comes first when the worker is lost must not be the same.
        let mut queues: Vec<&String> = self.config.queues.iter().collect();
        fastrand::shuffle(&mut queues);
        for queue in queues {
            let Some(delivery) = self.head(queue).await? else {
                continue;
            };
            let suspect = is_suspect(&delivery, self.pipeline.delivery_limit);
            suspects |= suspect && seen.is_another(queue, RunKey::of(&delivery.message, queue));
            self.start(delivery, suspect).await;
        }
        Ok(suspects)
    }

    async fn head(&self, queue: &String) -> Result<Option<Delivery>, BrokerError> {
        let broker = self.pipeline.servers.broker();
        if broker.length(queue).await?.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let longest = self.pipeline.registry.longest();
        let terms = Terms {
            prefetch: 1,
            ..self.config.terms(queue, longest)
        };
        let mut deliveries = broker.consume(std::slice::from_ref(queue), terms).await?;
        // Its consumer is ended first. Where the message is settled before the broker has heard of that, it may deliver one
        // more, which comes back.
        Ok(timeout(LOOK, deliveries.next()).await.unwrap_or(None))
    }

    /// A suspect runs when nothing else does, and nothing else is taken before it has ended.
    async fn start(&self, delivery: Delivery, suspect: bool) {
        if suspect {
            let (queue, lost) = (&delivery.source.queue, delivery.message.deliveries_lost());
            tracing::warn!(target: "petiole", "a message of queue {queue} was lost {lost} times with its worker: it runs alone");
            self.pipeline.status.set_consuming(true);
            self.idle().await;
        }
        let slot = self.slots.clone().slot().await;
        let pipeline = Arc::clone(self.pipeline);
        let journey = async move { pipeline.journey(delivery, slot).await };
        // Tracked, so that it goes on where this is dropped by a shutdown.
        let journey = self.journeys.spawn(journey);
        if suspect {
            // One that panicked has left its delivery, which comes again.
            let _ = journey.await;
        }
    }

    async fn idle(&self) {
        self.journeys.close();
        self.journeys.wait().await;
        self.journeys.reopen();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use petiole_celery::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_suspect_that_comes_again_is_not_waited_for() {
        let run = |id: &str| {
            let headers = json!({"task": "my_app.tasks.run_task", "id": id});
            let message = Message {
                headers: headers.as_object().unwrap().clone(),
                ..Message::default()
            };
            RunKey::of(&message, "q")
        };
        let mut seen = Seen::default();
        let table = [
            ("one", run("a"), true),
            ("one", run("a"), false),
            ("two", run("a"), true),
            ("one", run("b"), true),
            ("one", run("a"), true),
            ("one", None, true),
        ];
        for (queue, run, another) in table {
            assert_eq!(seen.is_another(queue, run.clone()), another, "{run:?}");
        }
    }
}
