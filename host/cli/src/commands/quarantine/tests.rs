#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use petiole_broker::Terms;
use petiole_celery::{Destination, Message, Publication};
use serde_json::Value;
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
