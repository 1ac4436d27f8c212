//! Carrying a plan out: store, publish, await the confirms. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use petiole_broker::{Broker, PublishError, Unsettled};
use petiole_celery::plan::Plan;
use petiole_celery::{Publication, TaskMeta};
use petiole_results::{ResultError, Results};
use tokio::time::Instant;

use crate::shutdown::{Shutdown, Stage};

/// How long a plan waits for a broker or a result backend that is down, holding its delivery. Half of
/// RabbitMQ's default `consumer_timeout` (30 min): after it the task is run again.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
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

/// Whether the broker may take the message another time.
fn may_pass(error: &PublishError) -> bool {
    match error {
        PublishError::Nacked { .. }
        | PublishError::NotConfirmed { .. }
        | PublishError::OutOfReach { .. }
        | PublishError::Broker(_) => true,
        PublishError::Unroutable { .. }
        | PublishError::Invalid { .. }
        | PublishError::TooLarge { .. }
        | PublishError::TooLate { .. }
        | PublishError::Undelayable { .. } => false,
    }
}

/// The servers that plans are carried out with.
pub(crate) struct Servers {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) results: Results,
    /// The queue for messages that can't be sent.
    pub(crate) quarantine: String,
    pub(crate) shutdown: Shutdown,
}

impl Servers {
    /// Stores and publishes; when this returns, everything the plan says is with its server.
    pub(crate) async fn carry_out(&self, plan: &Plan) -> Result<(), Fault> {
        for meta in &plan.results {
            self.insist(|| self.store(meta)).await?;
        }
        let (messages, replies): (Vec<_>, Vec<_>) = plan
            .publications
            .iter()
            .partition(|publication| publication.mandatory);
        // Whoever reads a reply may rely on the task's other messages.
        for together in [messages, replies] {
            let confirmed = together
                .into_iter()
                .map(|one| self.insist(|| self.publish(one)));
            try_join_all(confirmed).await?;
        }
        Ok(())
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
            self.publish(reply).await?;
        }
        Ok(())
    }

    async fn store(&self, meta: &TaskMeta) -> Result<(), Fault> {
        match &self.results {
            Results::Backend(backend) => Ok(backend.store(meta).await?),
            Results::Reply | Results::Disabled => Ok(()),
        }
    }

    /// A message that can't be sent, however often it is tried, is kept in the quarantine queue.
    async fn publish(&self, message: &Publication) -> Result<(), Fault> {
        let error = match self.broker.publish(message.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if may_pass(&error) {
            return Err(error.into());
        }
        if !message.mandatory {
            tracing::error!(target: "petiole", "reply not sent: {error}");
            return Ok(());
        }
        let kept = message.kept(&self.quarantine, &error.to_string());
        self.broker.publish(kept).await?;
        tracing::error!(target: "petiole", "message kept in queue {}: {error}", self.quarantine);
        Ok(())
    }

    /// Tries again while the server is down, until [`PATIENCE`] is over or the shutdown is cold.
    async fn insist<F>(&self, attempt: impl Fn() -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Fault>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(fault) = attempt().await else {
                return Ok(());
            };
            if Instant::now() + pause > deadline {
                return Err(fault);
            }
            tracing::warn!(target: "petiole", "{}; trying again in {pause:?}", causes(&fault));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.reached(Stage::Cold) => return Err(fault),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
