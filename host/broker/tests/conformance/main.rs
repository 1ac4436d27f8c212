//! Tests of what every broker must do, held against both of them; then of what only one of them can do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod amqp;
mod embedded;
mod memory;
mod proxy;
mod rabbitmq;
mod raw;
mod refusals;
mod suite;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use petiole_broker::{Broker, BrokerError, Deliveries, Delivery, Terms};
use petiole_celery::{Destination, Message, Publication};
use tokio::time::{Instant, sleep, timeout};

/// Time for anything before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// A broker's URL, and a name that no other test has.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) queue: String,
    /// True if the queue is a quorum queue, which somebody has declared before.
    quorum: bool,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) async fn amqp() -> Self {
        Self {
            url: rabbitmq::url().await.to_owned(),
            queue: unique(),
            quorum: false,
            _folder: None,
        }
    }

    pub(crate) async fn quorum() -> Self {
        Self {
            quorum: true,
            ..Self::amqp().await
        }
    }

    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("broker.db").display());
        Self {
            url,
            queue: unique(),
            quorum: false,
            _folder: Some(folder),
        }
    }

    pub(crate) async fn connect(&self) -> Arc<dyn Broker> {
        connect(&self.url).await.unwrap()
    }

    /// A broker with the queue declared.
    pub(crate) async fn broker(&self) -> Arc<dyn Broker> {
        self.broker_with(petiole_broker::MESSAGES).await
    }

    /// One with `memory` bytes for messages.
    pub(crate) async fn broker_with(&self, memory: usize) -> Arc<dyn Broker> {
        if self.quorum {
            rabbitmq::declare_quorum(&self.queue).await;
        }
        let broker = petiole_broker::connect(&self.url.as_str().into(), memory)
            .await
            .unwrap();
        broker.declare(&self.queue).await.unwrap();
        broker
    }

    pub(crate) async fn consume(&self, broker: &Arc<dyn Broker>, prefetch: u16) -> Deliveries {
        broker
            .consume(std::slice::from_ref(&self.queue), Terms::prefetch(prefetch))
            .await
            .unwrap()
    }
}

pub(crate) async fn connect(url: &str) -> Result<Arc<dyn Broker>, BrokerError> {
    petiole_broker::connect(&url.into(), petiole_broker::MESSAGES).await
}

pub(crate) fn unique() -> String {
    format!("test.{}", uuid::Uuid::new_v4())
}

/// A persistent message for a queue.
pub(crate) fn text(queue: &str, body: &str) -> Publication {
    let mut message = Message {
        body: body.to_owned().into(),
        ..Message::default()
    };
    message.properties.persistent = true;
    Publication {
        destination: Destination::queue(queue),
        message,
        mandatory: true,
        not_before: None,
    }
}

pub(crate) async fn next(deliveries: &mut Deliveries) -> Delivery {
    timeout(DEADLINE, deliveries.next())
        .await
        .expect("nothing is delivered")
        .expect("the deliveries ended")
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).unwrap()
}

/// Waits until the queue has `want` messages ready.
pub(crate) async fn length_becomes(broker: &Arc<dyn Broker>, queue: &str, want: u64) {
    let started = Instant::now();
    loop {
        let length = broker.length(queue).await;
        if length == Ok(Some(want)) {
            return;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "{queue} has {length:?}, not {want}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
