#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use petiole_celery::{Destination, Message};
use tokio::time::{Instant, sleep, timeout};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;
use crate::embedded::Embedded;
use crate::{Broker, Terms};

/// Keeps the levels of this crate's events.
#[derive(Clone, Default)]
struct Levels(Arc<Mutex<Vec<Level>>>);

impl Subscriber for Levels {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("petiole_broker")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn an_outage_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.db");
    let file = File::open(path).await.unwrap();
    let (published, closing) = (watch::Sender::new(0), CancellationToken::new());
    let (out, _deliveries) = mpsc::channel(1);
    let queue = "q".to_owned();
    let consumer = Consumer::start(
        file.clone(),
        queue,
        1,
        None,
        out,
        published.subscribe(),
        closing.clone(),
    );
    let consumer = consumer.await.unwrap();
    file.write(|connection| connection.execute_batch("DROP TABLE consumers"))
        .await
        .unwrap();
    let levels = Levels::default();
    let _guard = tracing::subscriber::set_default(levels.clone());
    let running = tokio::spawn(consumer.run());
    let told = || levels.0.lock().unwrap().clone();
    let deadline = Instant::now() + Duration::from_secs(30);
    while told().len() < 4 {
        assert!(Instant::now() < deadline, "{:?}", told());
        sleep(Duration::from_millis(20)).await;
    }
    let told = told();
    assert_eq!(told.first(), Some(&Level::WARN));
    assert!(
        !told.iter().skip(1).any(|level| *level == Level::WARN),
        "{told:?}"
    );
    closing.cancel();
    timeout(Duration::from_secs(30), running)
        .await
        .unwrap()
        .unwrap();
}

/// A file with the queue `q`, in which these messages are ready.
async fn file_with(path: std::path::PathBuf, bodies: &'static [&str]) -> File {
    let file = File::open(path).await.unwrap();
    file.write(move |connection| {
        messages::declare(connection, "q")?;
        let to = Destination::queue("q");
        for body in bodies {
            let message = Message {
                body: (*body).into(),
                ..Message::default()
            };
            messages::insert(connection, "q", None, &to, &message)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    file
}

/// Takes the first of these messages, changes the file by `sql`, and acks the message: with its ack the next one is
/// fetched. Then the deliveries, and for each message that is left, if it is in its queue.
async fn ack_after(
    sql: &'static str,
    bodies: &'static [&str],
    left: impl AsyncFnOnce(&mut mpsc::Receiver<Delivery>, Vec<bool>),
) {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path().join("broker.db"), bodies).await;
    let (published, closing) = (watch::Sender::new(0), CancellationToken::new());
    let (out, mut deliveries) = mpsc::channel(1);
    let consumer = Consumer::start(
        file.clone(),
        "q".to_owned(),
        1,
        None,
        out,
        published.subscribe(),
        closing.clone(),
    );
    let running = tokio::spawn(consumer.await.unwrap().run());
    let delivery = deliveries.recv().await.unwrap();
    file.write(move |connection| connection.execute_batch(sql))
        .await
        .unwrap();
    delivery.receipt.ack().await.unwrap();
    let in_queue = |connection: &Connection| {
        connection
            .prepare("SELECT consumer IS NULL FROM messages ORDER BY id")?
            .query_map([], |row| row.get(0))?
            .collect()
    };
    let in_queue = file.read(in_queue).await.unwrap();
    left(&mut deliveries, in_queue).await;
    closing.cancel();
    timeout(Duration::from_secs(30), running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_message_that_can_not_be_read_undoes_no_settlement() {
    let spoil = "UPDATE messages SET headers = 'none' WHERE body = x'626164'";
    ack_after(spoil, &["good", "bad", "next"], async |deliveries, left| {
        assert_eq!(left, [true, false]);
        let next = timeout(Duration::from_secs(30), deliveries.recv()).await;
        assert_eq!(next.unwrap().unwrap().message.body, "next");
    })
    .await;
}

#[tokio::test]
async fn a_fetch_that_fails_undoes_no_settlement() {
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON messages WHEN new.consumer IS NOT NULL \
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    ack_after(refuse, &["one", "two"], async |_, left| {
        assert_eq!(left, [true]);
    })
    .await;
}

#[tokio::test]
async fn a_publication_that_fails_halfway_leaves_nothing_and_its_neighbours_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path().join("broker.db"), &[]).await;
    let publish = |body: &'static str, fails: bool| {
        file.write(move |connection| {
            let message = Message {
                body: body.into(),
                ..Message::default()
            };
            messages::insert(connection, "q", None, &Destination::queue("q"), &message)?;
            match fails {
                true => connection.execute_batch("nonsense"),
                false => Ok(()),
            }
        })
    };
    let (before, failed, after) =
        tokio::join!(publish("a", false), publish("b", true), publish("c", false));
    before.unwrap();
    after.unwrap();
    assert!(matches!(failed, Err(BrokerError::Database { .. })));
    let length = file.read(|connection| messages::length(connection, "q"));
    assert_eq!(length.await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_broker_whose_file_is_gone_is_not_connected_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("broker.db"), folder.path().join("away"));
    let broker = Embedded::open(path.clone(), 1 << 20).await.unwrap();
    broker.declare("q").await.unwrap();
    let queues = ["q".to_owned()];
    let _deliveries = broker.consume(&queues, Terms::prefetch(1)).await.unwrap();
    assert!(broker.connected());
    let until = async |connected| {
        while broker.connected() != connected {
            sleep(Duration::from_millis(10)).await;
        }
    };
    std::fs::rename(&path, &away).unwrap();
    timeout(Duration::from_secs(30), until(false))
        .await
        .unwrap();
    std::fs::rename(&away, &path).unwrap();
    timeout(Duration::from_secs(30), until(true)).await.unwrap();
}
