//! Telling the others of a store what this worker has loaded, and waiting until all have a version.

use std::time::Duration;

use petiole_modules::{
    Announcement, HEARTBEAT, ModuleName, Store, StoreError, VersionNumber, WorkerState,
};
use tokio::time::Instant;

use crate::catalog::registry::Registry;
use crate::catalog::trouble::RegistryError;

/// The pause between two looks at what the workers say.
const LOOKS_APART: Duration = Duration::from_millis(100);

/// Tells of this worker, in the name of `worker`, while this future lives.
pub(crate) async fn announce(registry: &Registry, worker: &str) {
    let mut changes = registry.changes();
    let (mut announcement, mut is_told) = (None, true);
    loop {
        changes.borrow_and_update();
        let (store, state) = (registry.store().clone(), registry.state(worker));
        let said = tokio::task::spawn_blocking(move || say(&store, announcement, &state)).await;
        announcement = match said.map_err(RegistryError::from) {
            Ok(Ok(said)) => Some(said),
            Ok(Err(error)) => {
                // A worker may have no right to write there.
                if is_told {
                    tracing::info!(target: "petiole", "`petiole push` and `petiole modules` don't see this worker: {error}");
                }
                None
            }
            Err(_cut_off) => None,
        };
        is_told = announcement.is_some();
        // The sender lives in the registry.
        let _ = tokio::time::timeout(HEARTBEAT, changes.changed()).await;
    }
}

fn say(
    store: &Store,
    announcement: Option<Announcement>,
    state: &WorkerState,
) -> Result<Announcement, StoreError> {
    let announcement = match announcement {
        Some(announcement) => announcement,
        None => store.announce()?,
    };
    announcement.say(state)?;
    Ok(announcement)
}

/// The states of the store's workers, once all have this version or have refused it, or after `patience`.
///
/// # Errors
/// When the store can't be read.
pub async fn workers_with(
    store: &Store,
    module: &ModuleName,
    version: VersionNumber,
    patience: Duration,
) -> Result<Vec<WorkerState>, RegistryError> {
    let until = Instant::now() + patience;
    loop {
        let asked = store.clone();
        let workers = tokio::task::spawn_blocking(move || asked.workers()).await??;
        let is_done = |worker: &WorkerState| {
            let state = worker.modules.get(module);
            state.is_some_and(|state| state.version == Some(version) || state.refused)
        };
        if workers.iter().all(is_done) || Instant::now() >= until {
            return Ok(workers);
        }
        tokio::time::sleep(LOOKS_APART).await;
    }
}
