//! The embedded broker: queues in an SQLite file, which several processes may open at once.
//!
//! A message is confirmed when it is on the disk (`synchronous=full`), whatever its delivery mode. A
//! consumer leases what it takes; one that dies loses its lease, and its messages go back.

mod consume;
mod file;
mod messages;

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use petiole_celery::Publication;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::memory::{Memory, Share};
use crate::rules::{check, delay_seconds, sent_on};
use crate::{Broker, BrokerError, Deliveries, Delivery, PublishError, Terms};
use consume::Consumer;
use file::File;

/// The broker of one file.
pub(crate) struct Embedded {
    file: File,
    /// For the consumers, so that running tasks do not keep them from renewing their leases. Taken when
    /// dropped.
    runtime: Option<Runtime>,
    published: watch::Sender<u64>,
    closing: CancellationToken,
    /// For the messages of all consumers.
    memory: Arc<Memory>,
    consumers: Mutex<Vec<JoinHandle<()>>>,
}

impl Embedded {
    /// `memory`: bytes for messages that are delivered.
    pub(crate) async fn open(path: PathBuf, memory: usize) -> Result<Self, BrokerError> {
        let shown = path.display().to_string();
        let file = File::open(path).await?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("petiole-broker")
            .enable_all()
            .build()
            .map_err(|error| BrokerError::Database {
                path: shown,
                reason: error.to_string(),
            })?;
        Ok(Self {
            file,
            runtime: Some(runtime),
            published: watch::Sender::new(0),
            closing: CancellationToken::new(),
            memory: Memory::new(memory),
            consumers: Mutex::default(),
        })
    }

    fn open_still(&self) -> Result<(), BrokerError> {
        if self.closing.is_cancelled() {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    async fn consume_each(
        &self,
        queues: &[String],
        prefetch: u16,
    ) -> Result<Deliveries, BrokerError> {
        self.open_still()?;
        let Some(runtime) = &self.runtime else {
            return Err(BrokerError::Closed);
        };
        let prefetch = prefetch.max(1);
        let mut receivers = Vec::with_capacity(queues.len());
        for queue in queues {
            let share = Some(Share::new(&self.memory));
            let (consumer, receiver) = self.consumer(queue, prefetch, share).await?;
            self.keep(runtime.spawn(consumer.run())).await;
            receivers.push(receiver);
        }
        Ok(Deliveries::new(receivers))
    }

    async fn look_through_one(&self, queue: &str) -> Result<Deliveries, BrokerError> {
        self.open_still()?;
        let Some(runtime) = &self.runtime else {
            return Err(BrokerError::Closed);
        };
        let (consumer, receiver) = self.consumer(queue, 1, None).await?;
        self.keep(runtime.spawn(consumer.run_through())).await;
        Ok(Deliveries::new(vec![receiver]))
    }

    async fn consumer(
        &self,
        queue: &str,
        prefetch: u16,
        share: Option<Arc<Share>>,
    ) -> Result<(Consumer, mpsc::Receiver<Delivery>), BrokerError> {
        if self.length(queue).await?.is_none() {
            return Err(BrokerError::no_such_queue(queue));
        }
        let (out, receiver) = mpsc::channel(usize::from(prefetch));
        let consumer = Consumer::start(
            self.file.clone(),
            queue.to_owned(),
            prefetch,
            share,
            out,
            self.published.subscribe(),
            self.closing.clone(),
        )
        .await?;
        Ok((consumer, receiver))
    }

    async fn keep(&self, consumer: JoinHandle<()>) {
        let mut consumers = self.consumers.lock().await;
        consumers.retain(|consumer| !consumer.is_finished());
        consumers.push(consumer);
    }

    async fn publish_one(&self, publication: Publication) -> Result<(), PublishError> {
        self.open_still()?;
        let Publication {
            destination,
            mut message,
            mandatory,
            not_before,
        } = publication;
        message.headers = sent_on(message.headers);
        check(&message, &destination.exchange, &destination.routing_key)?;
        message
            .properties
            .message_id
            .get_or_insert_with(|| Uuid::now_v7().to_string());
        let available_at = match not_before {
            Some(until) => delay_seconds(until, Timestamp::now())?.map(|_| ceil_millisecond(until)),
            None => None,
        };
        if available_at.is_some() && !destination.exchange.is_empty() {
            return Err(PublishError::Undelayable {
                exchange: destination.exchange,
            });
        }
        let to = destination.clone();
        let routed = self
            .file
            .write(move |connection| {
                let Some(queue) = messages::route(connection, &to)? else {
                    return Ok(false);
                };
                messages::insert(connection, &queue, available_at, &to, &message)?;
                Ok(true)
            })
            .await?;
        if routed {
            self.published
                .send_modify(|count| *count = count.wrapping_add(1));
        } else if mandatory || available_at.is_some() {
            let petiole_celery::Destination {
                exchange,
                routing_key,
            } = destination;
            return Err(PublishError::Unroutable {
                exchange,
                routing_key,
            });
        }
        Ok(())
    }
}

fn ceil_millisecond(time: Timestamp) -> i64 {
    let milliseconds = time.as_millisecond();
    if time.as_nanosecond() > i128::from(milliseconds) * 1_000_000 {
        milliseconds + 1
    } else {
        milliseconds
    }
}

impl Broker for Embedded {
    fn declare<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>> {
        async move {
            self.open_still()?;
            if queue.is_empty() {
                let reason = "a queue's name can't be empty".to_owned();
                return Err(BrokerError::Queue {
                    queue: queue.to_owned(),
                    reason,
                });
            }
            let queue = queue.to_owned();
            self.file
                .write(move |connection| messages::declare(connection, &queue))
                .await
        }
        .boxed()
    }

    fn consume<'a>(
        &'a self,
        queues: &'a [String],
        terms: Terms,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        // Nothing here ends a consumer that lives.
        self.consume_each(queues, terms.prefetch).boxed()
    }

    fn look_through<'a>(
        &'a self,
        queue: &'a str,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        self.look_through_one(queue).boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<(), PublishError>> {
        self.publish_one(publication).boxed()
    }

    fn length<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<Option<u64>, BrokerError>> {
        let queue = queue.to_owned();
        async move {
            self.open_still()?;
            let length = self
                .file
                .read(move |connection| messages::length(connection, &queue))
                .await?;
            Ok(length.map(i64::unsigned_abs))
        }
        .boxed()
    }

    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        let queue = queue.to_owned();
        async move {
            self.open_still()?;
            let removed = self
                .file
                .write(move |connection| messages::purge(connection, &queue))
                .await?;
            Ok(u64::try_from(removed).unwrap_or(u64::MAX))
        }
        .boxed()
    }

    fn connected(&self) -> bool {
        !self.closing.is_cancelled() && self.file.usable()
    }

    fn held(&self) -> u64 {
        self.memory.held()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.closing.cancel();
            for consumer in self.consumers.lock().await.drain(..) {
                // One that panicked has released nothing: its lease ends by itself.
                let _ = consumer.await;
            }
        }
        .boxed()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Dropped inside another runtime, it would panic.
            runtime.shutdown_background();
        }
    }
}
