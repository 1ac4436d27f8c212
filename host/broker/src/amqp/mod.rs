//! RabbitMQ, by lapin: one connection that consumes, one that publishes, so that a broker which takes no
//! messages (an alarm) still gets its acks; both on threads of their own, so that running tasks never
//! starve a heartbeat.

mod ack;
mod channel;
mod confirms;
mod consume;
mod convert;
mod declare;
mod delay;
mod flights;
mod forward;
mod guard;
mod levels;
mod names;
mod publish;
mod subscription;
mod supervise;
mod table;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use petiole_celery::{Destination, Message, Publication};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::memory::{Memory, Share};
use crate::rules::delay_seconds;
use crate::url::Target;
use crate::{Broker, BrokerError, Deliveries, PublishError, Terms};
use convert::Outgoing;
use publish::Publisher;
use supervise::{Link, Live};

/// How long a declaration or question may take, a reconnect included.
const OPERATION_LIMIT: Duration = Duration::from_secs(30);
/// Operations that are under way at once, each with a channel or two of its own: RabbitMQ's `channel_max` is 2047, and it
/// ends a connection that opens more.
const OPERATIONS_LIMIT: usize = 64;
/// AMQP's reply code for what one has no permission for.
const ACCESS_REFUSED: u16 = 403;
/// AMQP's reply code for what there is none of.
const NOT_FOUND: u16 = 404;
/// AMQP's reply code for what a queue, as it is, can't do.
const PRECONDITION_FAILED: u16 = 406;
/// Threads for sockets, heartbeats, confirms and acks.
const THREADS: usize = 2;
/// Queues that are known to have an exchange of their own; messages for any further one go by the default exchange.
const OWN_LIMIT: usize = 4096;

/// A RabbitMQ broker.
pub(crate) struct Amqp {
    threads: Threads,
    consuming: Link,
    publishing: Link,
    publisher: Publisher,
    /// For the messages of all consumers.
    memory: Arc<Memory>,
    closing: CancellationToken,
    operations: Semaphore,
    supervisors: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    /// Queues declared here that are bound to a direct exchange of their name, by which they are published to.
    own: Mutex<HashMap<String, OwnExchange>>,
    /// The generation of the consuming connection in which the levels of the delayed delivery were declared. Held
    /// while they are.
    levels: tokio::sync::Mutex<Option<u64>>,
}

/// The exchange of a queue's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnExchange {
    Usable,
    /// The broker has refused it the last time: tried where the default one is refused too, as the permission may be back.
    Refused,
}

/// What came of a message by the exchange of its queue's name.
enum ByOwn {
    Taken,
    /// The default exchange is left to try.
    Refused(PublishError),
    NoQueue,
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
        // Whoever waits for this may stop to.
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
    async fn operate<T, F>(&self, operation: impl FnOnce(Arc<Live>) -> F) -> Result<T, BrokerError>
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

    async fn publish_one(&self, publication: Publication) -> Result<(), PublishError> {
        let Publication {
            destination,
            message,
            mandatory,
            not_before,
        } = publication;
        let delay = match not_before {
            Some(until) => delay_seconds(until, Timestamp::now())?,
            None => None,
        };
        match delay {
            Some(seconds) => self.publish_delayed(seconds, destination, message).await,
            None => self.publish_now(destination, message, mandatory).await,
        }
    }

    async fn publish_now(
        &self,
        to: Destination,
        message: Message,
        mandatory: bool,
    ) -> Result<(), PublishError> {
        let Destination {
            exchange,
            routing_key,
        } = to;
        if !mandatory || !exchange.is_empty() {
            let outgoing = Arc::new(self.outgoing(message, &exchange, &routing_key, mandatory)?);
            return match self.publisher.publish(outgoing, exchange.is_empty()).await {
                // As with a queue that is not there: whoever was to read it has gone.
                Err(PublishError::Refused { answer, .. })
                    if !mandatory && answer.code == NOT_FOUND =>
                {
                    Ok(())
                }
                other => other,
            };
        }
        self.publish_to_queue(&routing_key, message).await
    }

    /// By the queue's own exchange, else by the default one: the one first that the broker has not refused the last time.
    async fn publish_to_queue(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        let own = self.own_exchange(queue);
        let mut by_own = None;
        if own == Some(OwnExchange::Usable) {
            match self.publish_by_own_exchange(queue, message.clone()).await? {
                ByOwn::Taken => return Ok(()),
                not_taken => by_own = Some(not_taken),
            }
        }
        let again = own.map(|_| message.clone());
        let published = self.publish_by_default(queue, message).await;
        let Some(again) = again.filter(|_| published.as_ref().is_err_and(is_forbidden)) else {
            return published;
        };
        // Least permissions have no default exchange: what counts is what the queue's own comes to.
        let by_own = match by_own {
            Some(by_own) => by_own,
            None => self.publish_by_own_exchange(queue, again).await?,
        };
        match by_own {
            ByOwn::Taken => Ok(()),
            ByOwn::Refused(error) => Err(error),
            ByOwn::NoQueue => Err(PublishError::Unroutable {
                exchange: String::new(),
                routing_key: queue.to_owned(),
            }),
        }
    }

    async fn publish_by_default(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        let outgoing = Arc::new(self.outgoing(message, "", queue, true)?);
        self.publisher.publish(outgoing, true).await
    }

    /// By the exchange of the queue's name, which is made again where somebody has deleted it.
    async fn publish_by_own_exchange(
        &self,
        queue: &str,
        message: Message,
    ) -> Result<ByOwn, PublishError> {
        let outgoing = Arc::new(self.outgoing(message, queue, queue, true)?);
        let published = self.publisher.publish(Arc::clone(&outgoing), true).await;
        let published = match published {
            Err(error) if leads_nowhere(&error) => {
                let bound = self
                    .operate(|live| async move { declare::bind_own_exchange(&live, queue).await });
                match bound.await {
                    Ok(()) => self.publisher.publish(outgoing, true).await,
                    // The queue itself: its consumer may declare it again.
                    Err(error) if channel::is_missing(&error) => return Ok(ByOwn::NoQueue),
                    Err(error) => Err(error.into()),
                }
            }
            published => published,
        };
        match published {
            Ok(()) => {
                self.note_own_exchange(queue, OwnExchange::Usable);
                Ok(ByOwn::Taken)
            }
            Err(error) if is_forbidden(&error) => {
                self.note_own_exchange(queue, OwnExchange::Refused);
                Ok(ByOwn::Refused(error))
            }
            Err(error @ PublishError::Refused { .. }) => Ok(ByOwn::Refused(error)),
            Err(PublishError::Broker(error @ BrokerError::Refused { .. })) => {
                self.note_own_exchange(queue, OwnExchange::Refused);
                Ok(ByOwn::Refused(error.into()))
            }
            Err(error) => Err(error),
        }
    }

    fn outgoing(
        &self,
        message: Message,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
    ) -> Result<Outgoing, PublishError> {
        let outgoing = convert::outgoing(message, exchange, routing_key, mandatory, || {
            Uuid::now_v7().to_string()
        })?;
        guard::fits(&outgoing.properties, self.publishing.frame_max())?;
        Ok(outgoing)
    }

    async fn publish_delayed(
        &self,
        seconds: u64,
        to: Destination,
        message: Message,
    ) -> Result<(), PublishError> {
        if !to.exchange.is_empty() {
            return Err(PublishError::Undelayable {
                exchange: to.exchange,
            });
        }
        let queue = to.routing_key;
        let outgoing = Arc::new(self.outgoing(
            message,
            delay::ENTRY,
            &delay::routing_key(seconds, &queue),
            true,
        )?);
        self.prepare_delay(&queue).await?;
        match self.publisher.publish(Arc::clone(&outgoing), true).await {
            Err(error) if leads_nowhere(&error) => {
                self.forget_levels().await;
                self.prepare_delay(&queue).await?;
                self.publisher.publish(outgoing, true).await
            }
            other => other,
        }
    }

    /// Declares what a delayed message for a queue needs; the queue itself must exist.
    async fn prepare_delay(&self, queue: &str) -> Result<(), PublishError> {
        let exists = self
            .operate(|live| async move {
                let live = &*live;
                // Each time: a queue that somebody has deleted and declared again has lost its binding.
                let bound = delay::bind(live, queue).await;
                let missing = bound.as_ref().is_err_and(channel::is_missing);
                if !missing {
                    bound?;
                } else if declare::length(live, queue).await?.is_none() {
                    return Ok(false);
                } else {
                    self.forget_levels().await;
                }
                self.declare_levels(live).await?;
                if missing {
                    delay::bind(live, queue).await?;
                }
                Ok(true)
            })
            .await?;
        if exists {
            Ok(())
        } else {
            Err(PublishError::Unroutable {
                exchange: String::new(),
                routing_key: queue.to_owned(),
            })
        }
    }

    /// Once for each connection, as long as they are found.
    async fn declare_levels(&self, live: &Live) -> Result<(), BrokerError> {
        let mut levels = self.levels.lock().await;
        if *levels != Some(live.generation) {
            levels::declare(live).await?;
            *levels = Some(live.generation);
        }
        Ok(())
    }

    async fn forget_levels(&self) {
        *self.levels.lock().await = None;
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

    fn own_exchange(&self, queue: &str) -> Option<OwnExchange> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(queue).copied()
    }

    fn note_own_exchange(&self, queue: &str, exchange: OwnExchange) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.get_mut(queue) {
            *known = exchange;
        }
    }

    async fn close_connections(&self) {
        self.closing.cancel();
        for supervisor in self.supervisors.lock().await.drain(..) {
            // A supervisor that panicked has closed nothing, and there is nothing left to do about it.
            let _ = supervisor.await;
        }
    }
}

/// Carries an operation out within [`OPERATION_LIMIT`]: a channel can be silent on a connection that lives.
async fn limited<T>(
    operation: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    timeout(OPERATION_LIMIT, operation)
        .await
        .unwrap_or_else(|_| {
            Err(BrokerError::Lost {
                reason: format!("nothing came within {} s", OPERATION_LIMIT.as_secs()),
            })
        })
}

fn is_forbidden(error: &PublishError) -> bool {
    matches!(error, PublishError::Refused { answer, .. } if answer.code == ACCESS_REFUSED)
}

/// Whether the exchange, or a binding of it, is not there: somebody has deleted what was declared.
fn leads_nowhere(error: &PublishError) -> bool {
    match error {
        PublishError::Unroutable { .. } => true,
        PublishError::Refused { answer, .. } => answer.code == NOT_FOUND,
        _ => false,
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
