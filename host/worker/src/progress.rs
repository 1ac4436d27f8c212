use jiff::Timestamp;
use petiole_celery::Request;
use petiole_celery::plan::{Source, update};
use petiole_runtime::Progress;
use tokio::sync::watch;
use tracing::warn;

use crate::carry_out::causes;
use crate::pipeline::Pipeline;

impl Pipeline {
    /// Stores the states that a task sets, for as long as it is polled. When they come faster than they
    /// can be stored, only the last one is; one that can't be stored is dropped.
    pub(crate) async fn store_progress(
        &self,
        request: &Request,
        source: &Source,
        mut updates: watch::Receiver<Option<Progress>>,
    ) -> std::convert::Infallible {
        while updates.changed().await.is_ok() {
            let Some(progress) = updates.borrow_and_update().clone() else {
                continue;
            };
            let now = Timestamp::now();
            let (states, replies) = update(
                request,
                progress.state,
                progress.meta,
                source,
                &self.policy,
                now,
            );
            for state in &states {
                if let Err(fault) = self.store(state).await {
                    warn!(target: "petiole", task = request.task, id = request.id, "{}", causes(&fault));
                }
            }
            for reply in replies {
                if let Err(error) = self.broker.publish(reply).await {
                    warn!(target: "petiole", task = request.task, id = request.id, "state not sent: {error}");
                }
            }
        }
        std::future::pending().await
    }
}
