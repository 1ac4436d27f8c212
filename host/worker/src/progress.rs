use std::convert::Infallible;

use jiff::Timestamp;
use petiole_celery::plan::{Source, update};
use petiole_celery::{Request, RunKey};
use petiole_runtime::Progress;
use tokio::sync::watch;

use crate::carry_out::Servers;
use crate::causes::causes;

/// Stores the states that a task sets, for as long as it is polled. When they come faster than they can be
/// stored, only the last one is; one that can't be stored is dropped, and so is one of a `run` that has ended meanwhile on
/// another worker.
pub(crate) async fn store_progress(
    mut updates: watch::Receiver<Option<Progress>>,
    request: &Request,
    run: Option<&RunKey>,
    source: &Source,
    servers: &Servers,
) -> Infallible {
    while updates.changed().await.is_ok() {
        let Some(Progress { state, meta }) = updates.borrow_and_update().clone() else {
            continue;
        };
        let (states, replies) = update(
            request,
            state,
            meta,
            source,
            &servers.policy,
            Timestamp::now(),
        );
        if let Err(fault) = servers.tell(run, &states, &replies).await {
            let (Request { task, id, .. }, causes) = (request, causes(&fault));
            if servers.begins_outage(&fault) {
                tracing::debug!(target: "petiole", task, id, "Task {task}[{id}] state lost: {causes}");
            } else {
                tracing::warn!(target: "petiole", task, id, "Task {task}[{id}] state lost: {causes}");
            }
        }
    }
    std::future::pending().await
}
