#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

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
    let database = spawn_blocking(move || Database::open(&path))
        .await
        .unwrap()
        .unwrap();
    let (published, closing) = (watch::Sender::new(0), CancellationToken::new());
    let (out, _deliveries) = mpsc::channel(1);
    let queue = "q".to_owned();
    let consumer = Consumer::start(
        database.clone(),
        queue,
        1,
        None,
        out,
        published.subscribe(),
        closing.clone(),
    );
    let consumer = consumer.await.unwrap();
    database
        .write(|connection| connection.execute_batch("DROP TABLE consumers"))
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
