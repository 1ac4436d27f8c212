//! The client: two supervised connections, and the operations of a broker on them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use petiole_celery::Publication;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::operation::limited;
use super::publish::Publisher;
use super::send::OwnExchange;
use super::supervise::{self, Link, Live};
use super::{consume, declare, subscription};
use crate::broker::{Broker, Terms};
use crate::memory::{Memory, Share};
use crate::url::Target;
use crate::{BrokerError, Deliveries, PublishError};

/// Operations that are under way at once, each with a channel or two of its own: RabbitMQ's `channel_max` is 2047, and
/// it ends a connection that opens more.
const OPERATIONS_LIMIT: usize = 64;
/// Threads for sockets, heartbeats, confirms and acks.
const THREADS: usize = 2;
/// Queues that are known to have an exchange of their own; messages for any further one go by the default exchange.
const OWN_LIMIT: usize = 4096;

/// A RabbitMQ broker.
pub(crate) struct Amqp {
    threads: Threads,
    consuming: Link,
    pub(super) publishing: Link,
    pub(super) publisher: Publisher,
    /// For the messages of all consumers.
    memory: Arc<Memory>,
    closing: CancellationToken,
    operations: Semaphore,
    supervisors: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    /// Queues declared here that are bound to a direct exchange of their name, by which they are published to.
    pub(super) own: Mutex<HashMap<String, OwnExchange>>,
    /// The generation of the consuming connection in which the levels of the delayed delivery were declared. Held
    /// while they are.
    pub(super) levels: tokio::sync::Mutex<Option<u64>>,
}

impl Amqp {
    /// `memory`: bytes for messages that are delivered.
    pub(crate) async fn connect(targets: Vec<Target>, memory: usize) -> Result<Self, BrokerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("petiole-amqp")
            .enable_all()
            .build()
            .map_err(|error| BrokerError::Lost {
                reason: format!("no threads for the connection: {error}"),
            })?;
        let closing = CancellationToken::new();
        let name = connection_name();
        let connected = runtime.spawn(connect_both(targets.into(), name, closing.clone()));
        let threads = Threads(Some(runtime));
        // Whoever waits for this may stop waiting.
        let (consuming, publishing, publisher, supervisors) =
            connected.await.map_err(|error| BrokerError::Lost {
                reason: error.to_string(),
            })??;
        Ok(Self {
            threads,
            consuming,
            publishing,
            publisher,
            memory: Memory::new(memory),
            closing,
            operations: Semaphore::new(OPERATIONS_LIMIT),
            supervisors: tokio::sync::Mutex::new(supervisors),
            own: Mutex::default(),
            levels: tokio::sync::Mutex::default(),
        })
    }

    /// Carries an operation out on the consuming connection: an alarm does not stop it.
    pub(super) async fn operate<T, F>(
        &self,
        operation: impl FnOnce(Arc<Live>) -> F,
    ) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        limited(async {
            let _turn = self
                .operations
                .acquire()
                .await
                .map_err(|_| BrokerError::Closed)?;
            let live = self.consuming.live().await.ok_or(BrokerError::Closed)?;
            let gone = live.gone.clone();
            // Lapin leaves some of those who wait for an answer waiting when the connection ends.
            tokio::select! {
                biased;
                done = operation(live) => done,
                () = gone.cancelled() => Err(BrokerError::Lost {
                    reason: "the connection is gone".to_owned(),
                }),
            }
        })
        .await
    }

    async fn consume_each(
        &self,
        queues: &[String],
        mut terms: Terms,
    ) -> Result<Deliveries, BrokerError> {
        let Some(runtime) = &self.threads.0 else {
            return Err(BrokerError::Closed);
        };
        terms.prefetch = terms.prefetch.max(1);
        let mut receivers = Vec::with_capacity(queues.len());
        for queue in queues {
            let share = Share::new(&self.memory);
            let of_first = &share;
            let first = self
                .operate(|live| async move {
                    subscription::subscribe(&live, queue, terms, of_first).await
                })
                .await?;
            let (out, receiver) = mpsc::channel(usize::from(terms.prefetch));
            runtime.spawn(consume::feed(
                self.consuming.clone(),
                queue.clone(),
                terms,
                share,
                first,
                out,
            ));
            receivers.push(receiver);
        }
        Ok(Deliveries::new(receivers))
    }

    async fn look_through_one(&self, queue: &str) -> Result<Deliveries, BrokerError> {
        let Some(runtime) = &self.threads.0 else {
            return Err(BrokerError::Closed);
        };
        let getting = self
            .operate(|live| async move { consume::Getting::start(&live, queue).await })
            .await?;
        let (out, receiver) = mpsc::channel(1);
        runtime.spawn(getting.run(out));
        Ok(Deliveries::new(vec![receiver]))
    }

    async fn declare_queue(&self, queue: &str) -> Result<(), BrokerError> {
        let bound = self
            .operate(|live| async move { declare::queue(&live, queue).await })
            .await?;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if bound && own.len() < OWN_LIMIT {
            own.insert(queue.to_owned(), OwnExchange::Usable);
        }
        Ok(())
    }

    async fn close_connections(&self) {
        self.closing.cancel();
        for supervisor in self.supervisors.lock().await.drain(..) {
            // A supervisor that panicked has closed nothing, and there is nothing left to do about it.
            let _ = supervisor.await;
        }
    }
}

/// `petiole@HOST:PID`, as RabbitMQ's management shows it.
fn connection_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "localhost"
    } else {
        host.trim()
    };
    format!("petiole@{host}:{}", std::process::id())
}

type Connected = (Link, Link, Publisher, Vec<JoinHandle<()>>);

async fn connect_both(
    targets: Arc<[Target]>,
    name: String,
    closing: CancellationToken,
) -> Result<Connected, BrokerError> {
    let (consuming, first) = supervise::establish(
        Arc::clone(&targets),
        format!("{name} consume"),
        closing.clone(),
    )
    .await?;
    match supervise::establish(targets, format!("{name} publish"), closing.clone()).await {
        Ok((publishing, second)) => {
            let publisher = Publisher::start(publishing.clone());
            Ok((consuming, publishing, publisher, vec![first, second]))
        }
        Err(error) => {
            closing.cancel();
            Err(error)
        }
    }
}

impl Broker for Amqp {
    fn declare<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.declare_queue(queue).boxed()
    }

    fn consume<'a>(
        &'a self,
        queues: &'a [String],
        terms: Terms,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        self.consume_each(queues, terms).boxed()
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
        self.operate(move |live| async move { declare::length(&live, queue).await })
            .boxed()
    }

    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        self.operate(move |live| async move { declare::purge(&live, queue).await })
            .boxed()
    }

    fn connected(&self) -> bool {
        self.consuming.connected() && self.publishing.connected() && !self.publishing.blocked()
    }

    fn held(&self) -> u64 {
        self.memory.held()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.close_connections().boxed()
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// The runtime of a broker's connections. Dropped inside another runtime, tokio's own would panic.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
