//! The active modules and their tasks: follows the catalog, loads what is active in it, and installs.
//!
//! `active.rs` decides what each of these comes to.

mod follow;
mod install;
mod load;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use petiole_modules::{ModuleName, SigningPolicy, Store, VersionNumber, WorkerState};
use petiole_permits::ServiceUrl;
use petiole_runtime::{Budget, Cache, Compiler, Runtime};
use tokio::sync::{Notify, watch};

use self::follow::Follower;
pub use self::install::Installed;
use crate::catalog::active::{Active, Claim, Found, NotLoaded};
use crate::catalog::defaults::TaskDefaults;
use crate::catalog::grants::Grants;
use crate::catalog::registered::RegisteredTask;
use crate::catalog::trouble::RegistryError;

/// The tasks of the modules that are active in a store. What another process activates there shows as soon as one of its
/// tasks is asked for, or within a second; a task that runs keeps the version it began with.
pub struct Registry {
    store: Store,
    runtime: Runtime,
    cache: Cache,
    compiler: Compiler,
    defaults: TaskDefaults,
    grants: Grants,
    /// None where signatures are kept and not looked at.
    signatures: Option<SigningPolicy>,
    active: RwLock<Arc<Active>>,
    /// Held by whoever replaces it.
    replacing: Mutex<()>,
    /// Counts the replacements.
    replaced: watch::Sender<u64>,
    catalog: tokio::sync::Mutex<Follower>,
    /// Held by whoever loads.
    loading: tokio::sync::Mutex<()>,
    /// There may be something to load.
    news: Notify,
}

impl Registry {
    /// The longest that a task may take: the most that a manifest may ask for.
    pub(crate) fn longest(&self) -> Duration {
        self.defaults.most.time
    }

    /// Opens a store (`file://DIR`) and reads its catalog. [`refresh`](Self::refresh) loads what is active there. A store
    /// that does not answer is asked again then.
    ///
    /// # Errors
    /// When the URL is not a store's.
    pub async fn open(
        store_url: &ServiceUrl,
        runtime: Runtime,
        cache: Cache,
        compiler: Compiler,
        defaults: TaskDefaults,
        grants: Grants,
        signatures: Option<SigningPolicy>,
    ) -> Result<Arc<Self>, RegistryError> {
        let registry = Arc::new(Self {
            store: Store::of_url(store_url)?,
            runtime,
            cache,
            compiler,
            defaults,
            grants,
            signatures,
            active: RwLock::default(),
            replacing: Mutex::default(),
            replaced: watch::Sender::new(0),
            catalog: tokio::sync::Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            news: Notify::new(),
        });
        // An error is kept, and shown by whoever needs the catalog.
        let _ = registry.look().await;
        Ok(registry)
    }

    /// The budget of memory of all its tasks.
    pub(crate) fn budget(&self) -> &Budget {
        self.runtime.budget()
    }

    /// The meaning of a name, as far as the catalog was read.
    pub(crate) fn find(&self, name: &str) -> Found {
        self.active().find(name, Instant::now())
    }

    /// The task of this full name, where it answers here.
    pub fn task(&self, name: &str) -> Option<Arc<RegisteredTask>> {
        self.active().tasks.get(name).cloned()
    }

    /// The largest body, in bytes, of a message whose task is this; the worker's own limit where there is no
    /// such task, and the most that a manifest may ask for where its module is not loaded.
    pub(crate) fn argument_limit(&self, found: &Found) -> usize {
        match found {
            Found::Task(task) => task.limits.arguments,
            Found::NotLoaded { .. } | Found::Refused { .. } => self.defaults.most.arguments,
            Found::Unknown => self.defaults.limits.arguments,
        }
    }

    /// The reason why a task does not answer here now, though an active module may have it.
    pub fn awaited(&self, task: &str) -> Option<String> {
        match self.find(task) {
            Found::Task(_) | Found::Unknown | Found::Refused { .. } => None,
            Found::NotLoaded { .. } => self.unready(),
        }
    }

    /// All tasks that answer here, in the order of their names.
    pub fn tasks(&self) -> Vec<Arc<RegisteredTask>> {
        let mut tasks: Vec<_> = self.active().tasks.values().cloned().collect();
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        tasks
    }

    /// The version of a module that answers here.
    pub fn version(&self, module: &ModuleName) -> Option<VersionNumber> {
        let active = self.active();
        active.modules.get(module).map(|loaded| loaded.version)
    }

    /// Versions that are active in the catalog and do not answer here, in the order of the modules' names.
    pub fn not_loaded(&self) -> Vec<NotLoaded> {
        self.active().not_loaded()
    }

    /// The fault of the host that keeps this worker from having all that is active; none where it has all, but for what it
    /// refuses. Short: for readiness.
    pub fn unready(&self) -> Option<String> {
        self.active().unready()
    }

    /// The versions that this worker has.
    pub(crate) fn state(&self, worker: &str) -> WorkerState {
        WorkerState {
            worker: worker.to_owned(),
            modules: self.active().states(),
        }
    }

    /// Counts up with each change of what is active here.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// The store. What blocks there is to be called on a thread for it; what it changes shows here after
    /// [`refresh`](Self::refresh).
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until taking messages makes sense.
    pub(crate) async fn serving(&self) {
        let mut replaced = self.replaced.subscribe();
        while !self.active().serves() {
            // The sender lives in `self`.
            let _ = replaced.changed().await;
        }
    }

    fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, change: impl FnOnce(&Active) -> Active) {
        let _one = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.active();
        let next = Arc::new(change(&before));
        for claim in next.claims.difference(&before.claims) {
            tell_claim(claim);
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.replaced
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn tell_claim(
    Claim {
        task,
        module,
        owner,
    }: &Claim,
) {
    tracing::error!(
        target: "petiole",
        "task {task} of module {module} does not answer: module {owner} has the name; remove one of them, or rename the task in the manifest"
    );
}
