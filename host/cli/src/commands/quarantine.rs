use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use petiole_broker::{Broker, Deliveries, Delivery, Receipt};
use petiole_celery::{Destination, Kept, Message, wire};
use serde::Serialize;
use serde_json::{Value, json};

use super::output::{print_json, print_text};
use crate::cli::{ChosenArgs, QuarantineArgs, QuarantineCommand};
use crate::config::{Flags, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::logging::escaped;
use crate::open::{self, broker_failure, publish_failure};
use crate::session;
use crate::tables::table;

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

/// A message in a list.
#[derive(Serialize)]
struct Entry {
    id: Option<String>,
    task: Option<String>,
    task_id: Option<String>,
    exchange: Option<String>,
    routing_key: Option<String>,
    reason: Option<String>,
    kept_at: Option<String>,
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

impl Entry {
    fn of(message: Message) -> Self {
        let id = message.properties.message_id.clone();
        let kept = Kept::open(message);
        let header = |name| {
            let headers = &kept.as_ref()?.message.headers;
            let value = wire::plain(headers).get(name)?.as_str()?.to_owned();
            Some(value)
        };
        Self {
            task: header("task"),
            task_id: header("id"),
            kept_at: id.as_deref().and_then(kept_at).map(|time| time.to_string()),
            id,
            exchange: kept.as_ref().map(|kept| kept.destination.exchange.clone()),
            routing_key: kept
                .as_ref()
                .map(|kept| kept.destination.routing_key.clone()),
            reason: kept.map(|kept| kept.reason),
        }
    }
}

/// The time at which a message was kept: the broker crate's ids (UUIDv7) begin with it.
fn kept_at(id: &str) -> Option<Timestamp> {
    let (seconds, _) = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

fn listed(entries: &[Entry]) -> String {
    let cell = |text: &Option<String>| escaped(text.as_deref().unwrap_or("-"));
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            let exchange = entry.exchange.as_deref().filter(|name| !name.is_empty());
            let queue = match exchange {
                Some(exchange) => escaped(&format!("{exchange}/{}", cell(&entry.routing_key))),
                None => cell(&entry.routing_key),
            };
            [
                cell(&entry.id),
                cell(&entry.task),
                cell(&entry.task_id),
                queue,
                cell(&entry.kept_at),
                cell(&entry.reason),
            ]
        })
        .collect();
    table(["ID", "TASK", "TASK ID", "QUEUE", "KEPT", "REASON"], &rows)
}

/// All of a message; bytes that are no text as kombu writes them.
fn shown(message: Message) -> Value {
    let entry = Entry::of(message.clone());
    let message = match Kept::open(message.clone()) {
        Some(kept) => kept.message,
        None => message,
    };
    let body = match str::from_utf8(&message.body) {
        Ok(text) => json!(text),
        Err(_) => json!({
            "__type__": "base64", "__value__": BASE64_STANDARD.encode(&message.body),
        }),
    };
    json!({
        "id": entry.id, "kept_at": entry.kept_at, "reason": entry.reason,
        "exchange": entry.exchange, "routing_key": entry.routing_key,
        "properties": message.properties, "headers": message.headers, "body": body,
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use petiole_broker::Terms;
    use petiole_celery::{Destination, Publication};
    use tokio::time::timeout;

    use super::*;

    const KEPT: &str = "petiole.quarantine";

    /// A broker with messages in quarantine that were on their way to these queues.
    async fn keeping(dir: &std::path::Path, queues: &[&str]) -> Quarantine {
        let url = format!("sqlite://{}", dir.join("broker.db").display());
        let broker = petiole_broker::connect(&url.into(), petiole_broker::MESSAGES)
            .await
            .unwrap();
        for queue in [KEPT, "a", "b"] {
            broker.declare(queue).await.unwrap();
        }
        for queue in queues {
            let mut message = Message::default();
            message.headers.insert("task".into(), json!("shop.pay"));
            let publication = Publication {
                destination: Destination::queue(*queue),
                message,
                mandatory: true,
                not_before: None,
            };
            broker
                .publish(publication.kept(KEPT, "no such task"))
                .await
                .unwrap();
        }
        Quarantine {
            broker,
            declared: Mutex::default(),
            queue: KEPT.into(),
        }
    }

    impl Quarantine {
        async fn entries(&self) -> Vec<Entry> {
            let mut reading = self.read(100).await.unwrap();
            let mut held = Vec::new();
            let mut entries = Vec::new();
            while let Some(delivery) = reading.next().await {
                entries.push(Entry::of(delivery.message.clone()));
                held.push(delivery);
            }
            drop(reading);
            drop(held);
            self.back(entries.len()).await;
            entries
        }

        /// Waits until `count` messages are in quarantine: those that were held go back a moment later.
        async fn back(&self, count: usize) {
            let back = async {
                while self.length().await.unwrap() != count {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), back).await.unwrap();
        }

        async fn count(&self, queue: &str) -> Option<u64> {
            self.broker.length(queue).await.unwrap()
        }
    }

    fn one(id: &str) -> ChosenArgs {
        ChosenArgs {
            id: Some(id.to_owned()),
            all: false,
        }
    }

    fn all() -> ChosenArgs {
        ChosenArgs {
            id: None,
            all: true,
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_listed_in_order_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let before = Timestamp::now().as_second();
        let quarantine = keeping(dir.path(), &["a", "b", "c"]).await;
        for _ in 0..2 {
            let entries = quarantine.entries().await;
            let to: Vec<_> = entries
                .iter()
                .map(|entry| entry.routing_key.as_deref().unwrap())
                .collect();
            assert_eq!(to, ["a", "b", "c"]);
            let first = entries.first().unwrap();
            assert_eq!(first.task.as_deref(), Some("shop.pay"));
            assert_eq!(first.reason.as_deref(), Some("no such task"));
            let kept: Timestamp = first.kept_at.as_deref().unwrap().parse().unwrap();
            assert!((before..=Timestamp::now().as_second()).contains(&kept.as_second()));
            let lines = listed(&entries);
            assert!(lines.contains(first.id.as_deref().unwrap()), "{lines}");
        }
    }

    #[tokio::test]
    async fn one_message_is_sent_again_or_dropped_by_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = keeping(dir.path(), &["a", "b", "c"]).await;
        let entries = quarantine.entries().await;
        let id = |index: usize| entries.get(index).unwrap().id.clone().unwrap();
        quarantine
            .act(Action::Retry, one(&id(1)), true)
            .await
            .unwrap();
        assert_eq!(quarantine.count("b").await, Some(1));
        quarantine.back(2).await;
        quarantine
            .act(Action::Drop, one(&id(2)), true)
            .await
            .unwrap();
        assert_eq!(quarantine.count("c").await, None);
        quarantine.back(1).await;
        assert!(
            quarantine
                .act(Action::Drop, one(&id(2)), true)
                .await
                .is_err()
        );
        quarantine.back(1).await;
        let left = quarantine.entries().await;
        assert_eq!(left.len(), 1);
        assert_eq!(left.first().unwrap().id, Some(id(0)));
        let mut sent = quarantine
            .broker
            .consume(&["b".into()], Terms::prefetch(1))
            .await
            .unwrap();
        let sent = sent.next().await.unwrap();
        assert_eq!(
            Value::Object(sent.message.headers.clone()),
            json!({"task": "shop.pay", "x-petiole-sent-again": 1})
        );
    }

    #[tokio::test]
    async fn one_that_is_looked_for_takes_no_more_than_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = keeping(dir.path(), &["a"; 6]).await;
        let entries = quarantine.entries().await;
        let second = entries.get(1).unwrap().id.clone().unwrap();
        let (found, held) = quarantine.find(&second).await.unwrap();
        assert_eq!(found.message.properties.message_id, Some(second));
        assert_eq!(held.len(), 1);
        let left = quarantine.count(KEPT).await.unwrap();
        assert!((3..=4).contains(&left), "{left} left of 6");
    }

    #[tokio::test]
    async fn all_are_sent_again_but_those_that_can_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let too_long = "q".repeat(300);
        let quarantine = keeping(dir.path(), &["a", &too_long, "a"]).await;
        let exit = quarantine.act(Action::Retry, all(), true).await.unwrap();
        assert_eq!(exit, Exit::Failed);
        assert_eq!(quarantine.count("a").await, Some(2));
        quarantine.back(1).await;
        quarantine.broker.close().await;
        let again = keeping(dir.path(), &[]).await;
        let left = again.entries().await;
        assert_eq!(left.len(), 1);
        assert_eq!(left.first().unwrap().routing_key, Some(too_long));
        assert_eq!(
            again.act(Action::Drop, all(), true).await.unwrap(),
            Exit::Ok
        );
        assert_eq!(again.count(KEPT).await, Some(0));
    }
}
