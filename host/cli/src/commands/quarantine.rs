mod entry;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use petiole_broker::{Broker, Deliveries, Delivery, Receipt};
use petiole_celery::{Destination, Kept};
use serde_json::json;

use entry::{Entry, listed, shown};

use super::output::{print_json, print_text};
use crate::cli::{ChosenArgs, QuarantineArgs, QuarantineCommand};
use crate::config::{Flags, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::logging::escaped;
use crate::open::{self, broker_failure, publish_failure};
use crate::session;

/// Messages that are looked through for one.
const MOST: usize = 65_535;
/// Messages that may fail, of all, before the rest is left alone.
const FAILURES: usize = 64;

/// `petiole quarantine`
pub(super) fn run(sources: Sources, args: QuarantineArgs) -> Result {
    let flags = Flags::default()
        .set("broker", args.broker)
        .set("quarantine_queue", args.quarantine_queue);
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    session::tell_broker(&config.broker);
    block_on(async {
        let broker = open::broker(&config.broker).await?;
        let quarantine = Quarantine {
            broker: Arc::clone(&broker),
            queue: config.broker.quarantine_queue.clone(),
            declared: Mutex::default(),
        };
        let done = quarantine.carry_out(args.command, args.json).await;
        // Messages that are still held go back in their order.
        broker.close().await;
        done
    })
}

/// The queue, which is read by taking its messages and giving them back: no broker has another way.
struct Quarantine {
    broker: Arc<dyn Broker>,
    queue: String,
    /// Queues that messages were sent back to.
    declared: Mutex<HashSet<String>>,
}

/// A message that stays in quarantine.
struct Failed {
    why: Failure,
    /// None where its connection is gone, which gives it back.
    receipt: Option<Receipt>,
}

#[derive(Clone, Copy)]
enum Action {
    Retry,
    Drop,
}

impl Quarantine {
    async fn carry_out(&self, command: QuarantineCommand, json: bool) -> Result {
        match command {
            QuarantineCommand::List { limit } => self.list(limit.get(), json).await,
            QuarantineCommand::Show { id } => self.show(&id).await,
            QuarantineCommand::Retry(chosen) => self.act(Action::Retry, chosen, json).await,
            QuarantineCommand::Drop(chosen) => self.act(Action::Drop, chosen, json).await,
        }
    }

    async fn list(&self, limit: u16, json: bool) -> Result {
        let mut reading = self.read(limit.into()).await?;
        let mut held = Vec::new();
        let mut entries = Vec::new();
        while let Some(Delivery {
            message, receipt, ..
        }) = reading.next().await
        {
            entries.push(Entry::of(message));
            held.push(receipt);
        }
        self.broker.close().await;
        if json {
            print_json(&entries)?;
        } else {
            print_text(&listed(&entries))?;
            let more = reading.length.saturating_sub(entries.len());
            if more > 0 {
                eprintln!("{more} more: see --limit");
            }
        }
        Ok(Exit::Ok)
    }

    async fn show(&self, id: &str) -> Result {
        let (delivery, _held) = self.find(id).await?;
        let text =
            serde_json::to_string_pretty(&shown(delivery.message)).map_err(anyhow::Error::from)?;
        let lines: Vec<_> = text.lines().map(escaped).collect();
        print_text(&(lines.join("\n") + "\n"))?;
        Ok(Exit::Ok)
    }

    async fn act(&self, action: Action, chosen: ChosenArgs, json: bool) -> Result {
        let Some(id) = chosen.id else {
            return self.act_on_all(action, json).await;
        };
        let (delivery, _held) = self.find(&id).await?;
        match self.act_on(action, delivery).await {
            Ok(()) => report(action, 1, 0, json),
            Err(failed) => Err(failed.why),
        }
    }

    async fn act_on_all(&self, action: Action, json: bool) -> Result {
        let mut reading = self.read(usize::MAX).await?;
        let mut done = 0;
        let mut failed = Vec::new();
        while failed.len() < FAILURES
            && let Some(delivery) = reading.next().await
        {
            let id = delivery.message.properties.message_id.clone();
            match self.act_on(action, delivery).await {
                Ok(()) => done += 1,
                Err(failure) => {
                    let id = id.unwrap_or_else(|| "without an id".to_owned());
                    eprintln!("{}: {}", escaped(&id), escaped(&failure.why.to_string()));
                    // Held, so that it does not come again.
                    failed.push(failure.receipt);
                }
            }
        }
        let missed = match failed.len() {
            FAILURES => 0,
            _ => reading.left,
        };
        if missed > 0 {
            eprintln!("{missed} not read: another reader has them, or the connection is lost");
        }
        report(action, done, failed.len(), json)
    }

    /// Confirmed first, removed then: who dies in between has it twice, and never loses it.
    async fn act_on(&self, action: Action, delivery: Delivery) -> std::result::Result<(), Failed> {
        let Delivery {
            message, receipt, ..
        } = delivery;
        let failed = |why, receipt| Failed {
            why,
            receipt: Some(receipt),
        };
        if let Action::Retry = action {
            let Some(kept) = Kept::open(message) else {
                let why =
                    anyhow!("the message does not say where it was to go: publish it by hand");
                return Err(failed(Failure::failed(why), receipt));
            };
            let publication = match kept.send_again() {
                Ok(publication) => publication,
                Err(reason) => return Err(failed(Failure::failed(anyhow!(reason)), receipt)),
            };
            self.declare(&publication.destination).await;
            if let Err(error) = self.broker.publish(publication).await {
                return Err(failed(publish_failure(error), receipt));
            }
        }
        receipt.ack().await.map_err(|error| Failed {
            why: Failure::unreachable(error),
            receipt: None,
        })
    }

    /// Declares the exchange of a queue that is there, by which a worker sends too: the default one, which leads to every
    /// queue, may be forbidden. Where that can't be, whoever publishes is told.
    async fn declare(&self, destination: &Destination) {
        let queue = &destination.routing_key;
        let is_new = || self.declared().insert(queue.clone());
        if destination.exchange.is_empty()
            && is_new()
            && let Ok(Some(_)) = self.broker.length(queue).await
            && let Err(error) = self.broker.declare(queue).await
        {
            tracing::debug!(%error, queue, "its exchange can't be declared");
        }
    }

    fn declared(&self) -> MutexGuard<'_, HashSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message by its id, or the oldest by its task's, with those before it.
    async fn find(&self, id: &str) -> Result<(Delivery, Vec<Receipt>)> {
        let mut reading = self.read(MOST).await?;
        let mut held = Vec::new();
        while let Some(delivery) = reading.next().await {
            let entry = Entry::of(delivery.message.clone());
            if [entry.id, entry.task_id]
                .iter()
                .flatten()
                .any(|one| one == id)
            {
                return Ok((delivery, held));
            }
            held.push(delivery.receipt);
        }
        Err(Failure::usage(anyhow!(
            "queue {:?} has no message {id:?} among its first {}: see `petiole quarantine list`",
            self.queue,
            held.len()
        )))
    }

    /// Reads the messages that are there now, at most `most`, one by one: their bodies may not fit in memory together.
    async fn read(&self, most: usize) -> Result<Reading> {
        let length = self.length().await?;
        let left = most.min(length);
        let deliveries = match left {
            0 => None,
            _ => {
                let read = self.broker.look_through(&self.queue).await;
                Some(read.map_err(broker_failure)?)
            }
        };
        Ok(Reading {
            deliveries,
            length,
            left,
        })
    }

    fn no_such_queue(&self) -> Failure {
        Failure::usage(anyhow!(
            "there is no queue {:?} on this broker: a worker declares its quarantine queue when it starts; is it the right \
             name (--quarantine-queue), and the right broker and virtual host (-b)?",
            self.queue
        ))
    }

    async fn length(&self) -> Result<usize> {
        let length = self.broker.length(&self.queue).await;
        let length = length.map_err(broker_failure)?;
        let length = length.ok_or_else(|| self.no_such_queue())?;
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// Messages as they are delivered.
struct Reading {
    /// None where the queue was empty.
    deliveries: Option<Deliveries>,
    /// The number that the queue had.
    length: usize,
    left: usize,
}

impl Reading {
    /// The next one; none once there were as many as the queue had, or where another reader has the rest.
    async fn next(&mut self) -> Option<Delivery> {
        let deliveries = self.deliveries.as_mut()?;
        let left = self.left.checked_sub(1)?;
        let delivery = deliveries.next().await?;
        self.left = left;
        Some(delivery)
    }
}

fn report(action: Action, done: usize, failed: usize, json: bool) -> Result {
    let what = match action {
        Action::Retry => "sent again",
        Action::Drop => "dropped",
    };
    if json {
        print_json(&json!({ what.replace(' ', "_"): done, "failed": failed }))?;
    } else {
        print_text(&format!("{done} {what}\n"))?;
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}
