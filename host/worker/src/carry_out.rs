//! Carrying a plan out: store, publish, await the confirms. It decides nothing but which trouble may pass.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use petiole_broker::{Broker, PublishError, Unsettled};
use petiole_celery::plan::{Ended, Plan};
use petiole_celery::{Publication, TaskMeta};
use petiole_results::{ResultError, Results};
use tokio::time::Instant;

use crate::shutdown::{Shutdown, Stage};

/// How long a plan is tried in all, while a broker or a result backend is in trouble that may pass. Half of
/// RabbitMQ's default `consumer_timeout` (30 min). An answer that is awaited is not cut off by it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often a plan is tried again in all.
const TRIES: u32 = 250;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A fault of the host: the delivery stays unsettled, and the broker delivers it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the task was not run")]
    Sandbox(#[from] petiole_runtime::HostFault),
    #[error("result not stored")]
    Store(#[from] ResultError),
    #[error("message not confirmed")]
    Publish(#[from] PublishError),
    #[error("not settled")]
    Settle(#[from] Unsettled),
    #[error("cold shutdown")]
    ColdShutdown,
}

/// An error and what caused it, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// What became of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Everything it says is with its server.
    Out,
    /// The task can't be brought to the end that the plan has for it, for this reason.
    GivenUp(String),
}

/// The tries that are left to a plan.
struct Patience {
    deadline: Instant,
    tries: u32,
    pause: Duration,
}

impl Patience {
    fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            tries: 0,
            pause: FIRST_PAUSE,
        }
    }

    fn is_over(&self) -> bool {
        self.tries >= TRIES || Instant::now() >= self.deadline
    }

    /// Waits before the next try, unless the shutdown is cold.
    async fn pause(&mut self, shutdown: &Shutdown) -> Result<(), Fault> {
        self.tries = self.tries.saturating_add(1);
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        or_cold(shutdown, tokio::time::sleep(pause)).await
    }
}

async fn or_cold<T>(shutdown: &Shutdown, doing: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        done = doing => Ok(done),
        () = shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
    }
}

/// Whether a server is in trouble: said once when it begins, once when it is over.
pub(crate) struct Outage {
    server: &'static str,
    down: AtomicBool,
}

impl Outage {
    fn of(server: &'static str) -> Self {
        Self {
            server,
            down: AtomicBool::new(false),
        }
    }

    fn begins(&self, error: &dyn std::error::Error) {
        if self.down.swap(true, Ordering::Relaxed) {
            tracing::debug!(target: "petiole", "{}", causes(error));
        } else {
            tracing::warn!(target: "petiole", "{} does not take what it is given, and is tried again: {}", self.server, causes(error));
        }
    }

    fn ends(&self) {
        if self.down.load(Ordering::Relaxed) && self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "petiole", "{} takes what it is given again", self.server);
        }
    }
}

/// The servers that plans are carried out with.
pub(crate) struct Servers {
    broker: Arc<dyn Broker>,
    results: Results,
    /// The queue for messages that can't be sent.
    quarantine: String,
    pub(crate) shutdown: Shutdown,
    patience: Duration,
    broker_outage: Outage,
    results_outage: Outage,
}

impl Servers {
    pub(crate) fn new(broker: Arc<dyn Broker>, results: Results, quarantine: String) -> Self {
        Self {
            broker,
            results,
            quarantine,
            shutdown: Shutdown::new(),
            patience: PATIENCE,
            broker_outage: Outage::of("the broker"),
            results_outage: Outage::of("the result backend"),
        }
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Stores and publishes. What a server refuses for good is given up at once, what may pass when the
    /// plan's [`PATIENCE`] or [`TRIES`] are over: a message for another task is kept in the quarantine queue
    /// instead; where a result can't be stored, or the task itself can't be sent on, the plan is given up.
    pub(crate) async fn carry_out(&self, plan: &Plan) -> Result<Carried, Fault> {
        let mut patience = Patience::new(self.patience);
        for meta in &plan.results {
            if let Err(error) = self.stored(meta, &mut patience).await? {
                return Ok(Carried::GivenUp(causes(&error)));
            }
        }
        self.published(plan, &mut patience).await
    }

    /// Carries out a plan that keeps its message. A result that can't be stored is told of in the log: the
    /// message says more. Where that can't be kept either, nothing is settled.
    pub(crate) async fn keep(&self, plan: &Plan) -> Result<(), Fault> {
        let mut patience = Patience::new(self.patience);
        let keeps = plan.publications.iter().any(|one| self.is_kept(one));
        for meta in &plan.results {
            match self.stored(meta, &mut patience).await? {
                Ok(()) => {}
                Err(error) if keeps => {
                    tracing::error!(target: "petiole", "state {} of task {} is not stored: {}", meta.status.as_str(), meta.task_id, causes(&error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.published(plan, &mut patience).await.map(drop)
    }

    /// Stores a state of a task that still runs, once: one that is not the last may be lost.
    pub(crate) async fn tell(
        &self,
        results: &[TaskMeta],
        replies: &[Publication],
    ) -> Result<(), Fault> {
        for meta in results {
            self.store(meta).await?;
        }
        for reply in replies {
            self.broker.publish(reply.clone()).await?;
        }
        Ok(())
    }

    async fn store(&self, meta: &TaskMeta) -> Result<(), ResultError> {
        match &self.results {
            Results::Backend(backend) => backend.store(meta).await,
            Results::Reply | Results::Disabled => Ok(()),
        }
    }

    /// Stores, as long as trouble may pass; the inner error is what it is given up for.
    async fn stored(
        &self,
        meta: &TaskMeta,
        patience: &mut Patience,
    ) -> Result<Result<(), ResultError>, Fault> {
        loop {
            let Err(error) = or_cold(&self.shutdown, self.store(meta)).await? else {
                self.results_outage.ends();
                return Ok(Ok(()));
            };
            if error.is_final() || patience.is_over() {
                return Ok(Err(error));
            }
            self.results_outage.begins(&error);
            patience.pause(&self.shutdown).await?;
        }
    }

    /// Publishes the messages, then the replies: whoever reads a reply may rely on the task's other messages.
    async fn published(&self, plan: &Plan, patience: &mut Patience) -> Result<Carried, Fault> {
        let (messages, replies): (Vec<_>, Vec<_>) = plan
            .publications
            .iter()
            .map(Cow::Borrowed)
            .partition(|publication| publication.mandatory);
        for together in [messages, replies] {
            let carried = self.all(together, plan, patience).await?;
            if carried != Carried::Out {
                return Ok(carried);
            }
        }
        Ok(Carried::Out)
    }

    /// Publishes at once, and again what may pass. What goes to the quarantine queue is tried for as long as
    /// the worker lives: there is no other place for it.
    async fn all(
        &self,
        mut left: Vec<Cow<'_, Publication>>,
        plan: &Plan,
        patience: &mut Patience,
    ) -> Result<Carried, Fault> {
        while !left.is_empty() {
            let publishing = left
                .iter()
                .map(|one| self.broker.publish(Publication::clone(one)));
            let answers = or_cold(&self.shutdown, join_all(publishing)).await?;
            let (mut again, mut passing) = (Vec::new(), false);
            for (publication, answer) in left.into_iter().zip(answers) {
                let Err(error) = answer else {
                    self.broker_outage.ends();
                    continue;
                };
                let kept = self.is_kept(&publication);
                if !error.is_final() && (kept || !patience.is_over()) {
                    self.broker_outage.begins(&error);
                    passing = true;
                    again.push(publication);
                } else if kept && self.quarantine_is_back(&error).await? {
                    passing = true;
                    again.push(publication);
                } else if kept {
                    tracing::error!(target: "petiole", "a message can't even be kept in queue {}, and stays where it is: {error}", self.quarantine);
                    return Err(error.into());
                } else if !publication.mandatory {
                    tracing::error!(target: "petiole", "reply not sent: {error}");
                } else if is_the_task_itself(plan) {
                    return Ok(Carried::GivenUp(error.to_string()));
                } else {
                    tracing::error!(target: "petiole", "message kept in queue {}: {error}", self.quarantine);
                    let kept = publication.kept(&self.quarantine, &error.to_string());
                    again.push(Cow::Owned(kept));
                }
            }
            if passing {
                patience.pause(&self.shutdown).await?;
            }
            left = again;
        }
        Ok(Carried::Out)
    }

    /// Declares the quarantine queue again, where somebody has deleted it.
    async fn quarantine_is_back(&self, error: &PublishError) -> Result<bool, Fault> {
        match error {
            PublishError::Unroutable { .. } => {
                let declared = or_cold(&self.shutdown, self.broker.declare(&self.quarantine));
                Ok(declared.await?.is_ok())
            }
            _ => Ok(false),
        }
    }

    /// Whether a message is on its way to the quarantine queue.
    fn is_kept(&self, publication: &Publication) -> bool {
        let to = &publication.destination;
        to.exchange.is_empty() && to.routing_key == self.quarantine
    }
}

/// Whether what a plan sends is its own task, to run again or later.
fn is_the_task_itself(plan: &Plan) -> bool {
    match plan.ended {
        Ended::Retry { .. } | Ended::Requeued { .. } | Ended::Postponed => true,
        Ended::Success
        | Ended::Failure { .. }
        | Ended::Rejected { .. }
        | Ended::Ignored
        | Ended::Revoked => false,
    }
}

#[cfg(test)]
mod tests;
