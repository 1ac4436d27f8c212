use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use petiole_broker::{Broker, BrokerError, Deliveries};
use petiole_runtime::PLANS_MADE;
use petiole_storage::results::Results;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

use crate::carry_out::{FIRST_PROBE, Servers};
use crate::catalog::announce::announce;
use crate::catalog::registry::Registry;
use crate::config::WorkerConfig;
use crate::one_by_one::OneByOne;
use crate::pipeline::Pipeline;
use crate::shutdown::{Shutdown, Stage};
use crate::status::Status;
use crate::turns::runs::Runs;
use crate::turns::slot::Slots;

/// Time for closing the broker's connections at the end.
const CLOSING: Duration = Duration::from_secs(10);

/// Consumes tasks and runs them, until it is shut down.
pub struct Worker {
    config: WorkerConfig,
    pipeline: Arc<Pipeline>,
}

/// A worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The broker refused a queue or a consumer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Worker {
    /// A worker that is ready to run.
    pub fn new(
        config: WorkerConfig,
        broker: Arc<dyn Broker>,
        results: Results,
        registry: Arc<Registry>,
    ) -> Self {
        let status = Arc::new(Status::new(
            Arc::clone(&broker),
            Arc::clone(&registry),
            &config.policy.hostname,
        ));
        let planning = Semaphore::new(PLANS_MADE);
        let pipeline = Arc::new(Pipeline {
            servers: Servers::new(
                broker,
                results,
                config.policy.clone(),
                Arc::clone(&status.outages),
            ),
            registry,
            delivery_limit: u64::from(config.delivery_limit.get()),
            status,
            runs: Runs::default(),
            planning,
        });
        Self { config, pipeline }
    }

    /// Its state and its metrics.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.pipeline.status)
    }

    /// Tells it to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.pipeline.servers.shutdown.clone()
    }

    /// Declares the queues, consumes as soon as there are modules to run, and returns when the shutdown is complete:
    /// warm, with every task that ran settled; cold, or after [`WorkerConfig::drain`], with the rest given back to their queues.
    ///
    /// # Errors
    /// When the broker refuses a queue or a consumer at the start. Later the connection is supervised.
    pub async fn run(self) -> Result<(), WorkerError> {
        let Self { config, pipeline } = self;
        let broker = pipeline.servers.broker();
        declare(&**broker, &config).await?;
        let limit = config.drain;
        let mut following = pin!(async {
            let (registry, servers) = (&pipeline.registry, &pipeline.servers);
            let announcing = announce(registry, &servers.policy.hostname);
            tokio::join!(
                registry.follow(),
                announcing,
                servers.follow_results(FIRST_PROBE)
            );
        });
        // Until it is known what modules there are, messages are left in their queues, to workers that have some.
        tokio::select! {
            () = pipeline.registry.serving() => {}
            () = pipeline.servers.shutdown.reached(Stage::Warm) => {
                let _ = tokio::time::timeout(CLOSING, broker.close()).await;
                return Ok(());
            }
            () = &mut following => {}
        }
        if pipeline.registry.tasks().is_empty() {
            let hostname = &pipeline.servers.policy.hostname;
            tracing::info!(target: "petiole", "{hostname} has no module yet: it knows no task until the first `petiole push`");
        }
        let (started, is_started) = oneshot::channel();
        let journeys = TaskTracker::new();
        // On the runtime's own threads: from the caller's, each journey would have to wake one of them.
        let mut consumer = tokio::spawn(consume_all(
            Arc::clone(&pipeline),
            config,
            started,
            journeys.clone(),
        ));
        let started = async {
            if let Ok(started) = is_started.await {
                started?;
                pipeline.status.set_consuming(true);
                let hostname = &pipeline.servers.policy.hostname;
                tracing::info!(target: "petiole", "{hostname} ready.");
            }
            Ok::<_, BrokerError>(())
        };
        tokio::select! {
            started = started => started?,
            () = &mut following => {}
        }
        // A consumer that ends by itself ends the worker: it must not stay up and take nothing.
        let consumed = tokio::select! {
            consumed = &mut consumer => consumed,
            () = following => consumer.await,
        };
        if let Err(Ok(panic)) = consumed.map_err(JoinError::try_into_panic) {
            std::panic::resume_unwind(panic);
        }
        pipeline.status.set_consuming(false);
        drain(&pipeline, &journeys, limit).await;
        let _ = tokio::time::timeout(CLOSING, broker.close()).await;
        Ok(())
    }
}

/// Deliveries, and where their tasks run.
type Consumer = (Deliveries, Slots);

/// Declares the queues that the configuration names, and those that its routes lead to; no others ever.
async fn declare(broker: &dyn Broker, config: &WorkerConfig) -> Result<(), BrokerError> {
    let policy = &config.policy;
    for queue in config.queues.iter().chain([&policy.quarantine]) {
        broker.declare(queue).await?;
    }
    for queue in policy.routes.queues() {
        match broker.declare(queue).await {
            // It may be another's to declare, and be there: sending to it says more.
            Err(error) if error.is_final() => {
                tracing::warn!(target: "petiole", "a route's queue is not declared: {error}");
            }
            declared => declared?,
        }
    }
    Ok(())
}

/// Subscribes to the queues: to those without a cap together, to each of the others apart.
async fn subscribe(
    pipeline: &Pipeline,
    config: &WorkerConfig,
    slots: &Slots,
) -> Result<Vec<Consumer>, BrokerError> {
    let broker = pipeline.servers.broker();
    let longest = pipeline.registry.longest();
    let mut consumers = Vec::new();
    let mut open = Vec::new();
    for queue in &config.queues {
        let Some(cap) = config.cap(queue) else {
            open.push(queue.clone());
            continue;
        };
        let deliveries = broker
            .consume(std::slice::from_ref(queue), config.terms(queue, longest))
            .await?;
        consumers.push((deliveries, slots.capped(cap.get())));
    }
    if let Some(queue) = open.first() {
        let deliveries = broker.consume(&open, config.terms(queue, longest)).await?;
        consumers.push((deliveries, slots.clone()));
    }
    Ok(consumers)
}

/// Consumes until a shutdown, or until a consumer ends by itself: then the others end too. What may have ended
/// workers before comes first, alone.
async fn consume_all(
    pipeline: Arc<Pipeline>,
    config: WorkerConfig,
    started: oneshot::Sender<Result<(), BrokerError>>,
    journeys: TaskTracker,
) {
    let slots = Slots::new(config.concurrency.get());
    let one_by_one = OneByOne {
        pipeline: &pipeline,
        config: &config,
        slots: &slots,
        journeys: &journeys,
    };
    let subscribed = async {
        one_by_one.run().await?;
        subscribe(&pipeline, &config, &slots).await
    };
    let consumers = tokio::select! {
        biased;
        () = pipeline.servers.shutdown.reached(Stage::Warm) => return,
        subscribed = subscribed => match subscribed {
            Ok(consumers) => consumers,
            Err(error) => {
                // Ignored where nobody waits to hear it any more.
                let _ = started.send(Err(error));
                return;
            }
        },
    };
    let _ = started.send(Ok(()));
    if consumers.is_empty() {
        return;
    }
    let consumers = consumers.into_iter().map(|(deliveries, slots)| {
        let consume = consume(Arc::clone(&pipeline), deliveries, slots, journeys.clone());
        Box::pin(consume)
    });
    select_all(consumers).await;
}

/// Starts a journey for each delivery that there is a slot for. What was prefetched goes back when the
/// deliveries are dropped.
async fn consume(
    pipeline: Arc<Pipeline>,
    mut deliveries: Deliveries,
    slots: Slots,
    journeys: TaskTracker,
) {
    let mut next = async || {
        let delivery = deliveries.next().await?;
        Some((delivery, slots.clone().slot().await))
    };
    loop {
        let (delivery, slot) = tokio::select! {
            biased;
            () = pipeline.servers.shutdown.reached(Stage::Warm) => return,
            next = next() => match next {
                Some(next) => next,
                None => return,
            },
        };
        let pipeline = Arc::clone(&pipeline);
        journeys.spawn(async move { pipeline.journey(delivery, slot).await });
    }
}

async fn drain(pipeline: &Pipeline, journeys: &TaskTracker, limit: Duration) {
    journeys.close();
    if tokio::time::timeout(limit, journeys.wait()).await.is_err() {
        tracing::warn!(target: "petiole", "{} tasks still run after {limit:?}: cold shutdown", journeys.len());
        pipeline.servers.shutdown.cold();
        // Cold, a journey ends at its next await.
        let _ = tokio::time::timeout(CLOSING, journeys.wait()).await;
    }
}
