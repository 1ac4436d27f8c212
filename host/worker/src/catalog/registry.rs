//! The active modules and their tasks: follows the catalog, loads what is active in it, and installs.
//!
//! Reading the catalog is one thing ([`look`](Registry::look): cheap, asked for before any name counts as unknown),
//! loading what it names another ([`load_due`](Registry::load_due): seconds, tried again while it fails). What each
//! comes to is decided in `active.rs`.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use petiole_modules::{
    Catalog, Digest, Generation, KeyId, ModuleName, SignatureError, SignaturePolicy, Signed,
    Snapshot, Store, Upload, Version, VersionNumber, WorkerState,
};
use petiole_runtime::{Budget, Cache, Compiler, Module, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::catalog::active::{Active, Claim, Found, Loaded, NotLoaded, Turns, Why, reason};
use crate::catalog::announce::announce;
use crate::catalog::grants::{Grants, TaskGrants};
use crate::catalog::registered::{RegisteredTask, Registration, SettingsError};
use crate::catalog::trouble::{InstallError, RegistryError};
use crate::config::TaskDefaults;

/// How often the catalog is looked at for what others have activated in a shared store.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks, however many names that nobody knows are asked for: looking takes a tenth of the
/// time, so that names of a slow store cost no more. Messages that wait for a look are in the way of others.
const LOOKS_APART: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);
const LOOKS_REST: u32 = 10;
/// How long a store may take to show its catalog.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a message waits here for a catalog to be read and a module to be loaded; afterwards it does so in the broker.
const FIND_PATIENCE: Duration = Duration::from_secs(8);

/// The tasks of the modules that are active in a store. What another process activates there shows as soon as one of its
/// tasks is asked for, or within a second; a task that runs keeps the version it began with.
pub struct Registry {
    store: Store,
    runtime: Runtime,
    cache: Cache,
    compiler: Compiler,
    defaults: TaskDefaults,
    grants: Grants,
    /// Where there is none, signatures are kept and not looked at.
    signatures: Option<SignaturePolicy>,
    active: RwLock<Arc<Active>>,
    /// Held by who replaces it.
    replacing: Mutex<()>,
    /// Counts the replacements.
    replaced: watch::Sender<u64>,
    catalog: tokio::sync::Mutex<Follower>,
    /// Held by who loads.
    loading: tokio::sync::Mutex<()>,
    /// There may be something to load.
    news: Notify,
}

/// How far the catalog was followed.
#[derive(Default)]
struct Follower {
    /// Whether the store's folders were there, or could be made. From then on they are not made again: a store that
    /// went away must not look like an empty one.
    found: bool,
    seen: Option<Generation>,
    /// Who asked before this is answered.
    answered: Option<Instant>,
    /// How long after that the next look begins, at the earliest.
    apart: Duration,
    /// The one that is under way, and when it began. A store that hangs has one thread waiting for it, not one a look.
    look: Option<(Instant, JoinHandle<Look>)>,
}

fn apart(took: Duration) -> Duration {
    let (least, most) = LOOKS_APART.into_inner();
    took.saturating_mul(LOOKS_REST).clamp(least, most)
}

/// The catalog, where it has changed.
type Look = Result<Option<Snapshot>, RegistryError>;

/// A version that was installed, is active and loaded.
#[derive(Debug)]
pub struct Installed {
    /// The module.
    pub module: ModuleName,
    /// Its new version.
    pub version: VersionNumber,
    /// The component.
    pub digest: Digest,
    /// Whose signature it has, where signatures are looked at.
    pub signed_by: Option<KeyId>,
    /// The tasks that now answer: this version's.
    pub tasks: Vec<Arc<RegisteredTask>>,
    /// Exports that are no tasks, with the reasons.
    pub refused: Vec<petiole_runtime::RefusedExport>,
}

impl Registry {
    /// How long a task may take: the most that a manifest may ask for.
    pub(crate) fn longest(&self) -> Duration {
        self.defaults.most.time
    }

    /// Opens a store (`file://DIR`) and reads its catalog. [`refresh`](Self::refresh) loads what is active there. A store
    /// that does not answer is asked again then.
    ///
    /// # Errors
    /// When the URL is not a store's.
    pub async fn open(
        store_url: &str,
        runtime: Runtime,
        cache: Cache,
        compiler: Compiler,
        defaults: TaskDefaults,
        grants: Grants,
        signatures: Option<SignaturePolicy>,
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
        // What is in the way is kept, and shown by whoever needs the catalog.
        let _ = registry.look().await;
        Ok(registry)
    }

    /// What the memory of all its tasks stays within.
    pub(crate) fn budget(&self) -> &Budget {
        self.runtime.budget()
    }

    /// Checks a component, compiles it, keeps it as a new version of the module and activates it. `digest` is the
    /// component's.
    ///
    /// # Errors
    /// When the component is refused, with everything that is wrong with it, or can't be kept: then what was active
    /// before stays so. Or when it was kept, and does not answer here: the error says so.
    pub async fn install(
        &self,
        name: &str,
        component: Vec<u8>,
        digest: Digest,
        upload: Upload,
        now: Timestamp,
    ) -> Result<Installed, InstallError> {
        let name: ModuleName = name.parse()?;
        let component: Arc<[u8]> = component.into();
        let signed_by = self.signer(&name, &component, &upload).await?;
        let module = self
            .runtime
            .load(
                name.as_str(),
                &component,
                &self.cache,
                &self.compiler,
                self.grants.interfaces(&name, upload.manifest()),
            )
            .await
            .map_err(|error| self.grants.refusal(&name, upload.manifest(), error))?;
        let registration = Registration {
            module: &name,
            version: 0,
            component: &module,
            manifest: upload.manifest(),
            turns: None,
        };
        let tasks = registration.tasks(&self.defaults, &self.grants)?;
        self.check_names(&name, &tasks)?;
        let upload = upload.with_tasks(tasks.iter().map(|task| &task.name));
        let version = self
            .keep(name.clone(), component, digest, upload, now)
            .await?;
        let loaded = self.take_over(&name, version, &digest, &module).await?;
        Ok(Installed {
            module: name,
            version,
            digest,
            signed_by,
            tasks: loaded.tasks,
            refused: module.refused().to_vec(),
        })
    }

    /// Makes what was just installed answer, as the catalog has it.
    async fn take_over(
        &self,
        name: &ModuleName,
        number: VersionNumber,
        digest: &Digest,
        module: &Module,
    ) -> Result<Loaded, InstallError> {
        let not_followed = |reason: String| InstallError::NotFollowed {
            module: name.clone(),
            version: number,
            reason,
        };
        let looked = self.look().await;
        looked.map_err(|error| not_followed(error.to_string()))?;
        if let Some(missing) = self.active().missing.get(name)
            && missing.version.number == number
            && missing.version.digest == *digest
        {
            self.register(name, &missing.version, module)?;
        }
        let active = self.active();
        let answers = active.modules.get(name).filter(|loaded| {
            loaded.version == number
                && loaded.digest == *digest
                && !active.missing.contains_key(name)
        });
        answers.cloned().ok_or_else(|| {
            let missing = active.missing.get(name);
            let wanted = missing.map(|missing| missing.version.number);
            let loaded = active.modules.get(name).map(|loaded| loaded.version);
            InstallError::Superseded {
                module: name.clone(),
                version: number,
                now: wanted.or(loaded),
            }
        })
    }

    /// Picks up what has become active since the last time, and loads it.
    ///
    /// # Errors
    /// When the catalog can't be read; what was active stays so. What can't be loaded is
    /// [told of](Self::not_loaded).
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        let looked = self.look().await;
        self.load_due().await;
        looked
    }

    /// Follows the catalog for good: looks at it each second and when it is asked to, and loads what is active there as
    /// soon as it can be loaded. Others of the store are told how far it is, in the name of `worker`.
    pub(crate) async fn follow(&self, worker: &str) {
        let looking = async {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // What is in the way is logged when it changes.
                let _ = self.look().await;
            }
        };
        let loading = async {
            loop {
                self.load_due().await;
                let _ = tokio::time::timeout(LOOK, self.news.notified()).await;
            }
        };
        tokio::join!(looking, loading, announce(self, worker));
    }

    /// Reads the catalog, unless it was read since this was called: one look answers all who ask meanwhile.
    pub(crate) async fn look(&self) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let mut follower = self.catalog.lock().await;
        while follower.answered.is_none_or(|answered| answered < asked) {
            if let Some(answered) = follower.answered {
                let pause = follower.apart.saturating_sub(answered.elapsed());
                tokio::time::sleep(pause).await;
            }
            let known = (follower.found, follower.seen);
            let (began, look) = follower
                .look
                .get_or_insert_with(|| (Instant::now(), self.read(known)));
            let began = *began;
            let Ok(look) = tokio::time::timeout(LOOK_PATIENCE, look).await else {
                follower.answered = Some(Instant::now());
                self.unread(format!("no answer in {LOOK_PATIENCE:?}").into());
                break;
            };
            (follower.look, follower.answered) = (None, Some(began));
            follower.apart = apart(began.elapsed());
            match look.map_err(RegistryError::from).flatten() {
                Ok(snapshot) => {
                    follower.found = true;
                    follower.seen = snapshot
                        .as_ref()
                        .map(|new| new.generation)
                        .or(follower.seen);
                    self.read_as(snapshot);
                }
                Err(error) => self.unread(reason(&error)),
            }
        }
        match &self.active().unread {
            None => Ok(()),
            Some(reason) => Err(RegistryError::Unread {
                reason: Arc::clone(reason),
            }),
        }
    }

    fn read(&self, (found, seen): (bool, Option<Generation>)) -> JoinHandle<Look> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if !found {
                store.create()?;
            }
            Ok(match seen {
                Some(seen) => store.catalog().changed_since(seen)?,
                None => Some(store.catalog().snapshot()?),
            })
        })
    }

    fn read_as(&self, snapshot: Option<Snapshot>) {
        if self.active().unread.is_some() {
            tracing::info!(target: "petiole", "the catalog of modules is read again");
            self.replace(|active| Active {
                unread: None,
                ..active.clone()
            });
        }
        if let Some(snapshot) = snapshot {
            self.replace(|active| active.following(snapshot.modules));
            self.news.notify_one();
        }
    }

    fn unread(&self, reason: Arc<str>) {
        if self.active().unread.as_ref() == Some(&reason) {
            return;
        }
        tracing::error!(target: "petiole", "the catalog of modules can't be read, and is tried again each second: {reason}");
        self.replace(|active| Active {
            unread: Some(reason),
            ..active.clone()
        });
    }

    /// Loads all versions that are due.
    async fn load_due(&self) {
        let _turn = self.loading.lock().await;
        while let Some((name, version)) = self.active().due(Instant::now()) {
            let began = Instant::now();
            let loaded = self.load(&name, &version).await;
            if let Err(error) = loaded {
                let (took, now) = (began.elapsed(), Instant::now());
                let before = self.active();
                self.replace(|active| active.failing(&name, &version, &error, took, now));
                tell_failed(&name, version.number, &before, &self.active());
            }
        }
    }

    /// Loads a version from the store.
    async fn load(&self, name: &ModuleName, version: &Arc<Version>) -> Result<(), InstallError> {
        let (store, signatures) = (self.store.clone(), self.signatures.clone());
        let (module, wanted) = (name.clone(), Arc::clone(version));
        let component = tokio::task::spawn_blocking(move || {
            let component = store.get(&wanted.digest).map_err(RegistryError::from)?;
            // Again, at each load: whoever can write to the store could have changed any of it.
            if let Some(policy) = &signatures {
                policy.check_version(&module, &component, &wanted)?;
            }
            Ok::<_, InstallError>(component)
        });
        let component = component.await.map_err(RegistryError::from)??;
        let module = self
            .runtime
            .load(
                name.as_str(),
                &component,
                &self.cache,
                &self.compiler,
                self.grants.interfaces(name, &version.manifest),
            )
            .await
            .map_err(|error| self.grants.refusal(name, &version.manifest, error))?;
        self.register(name, version, &module)
    }

    /// Makes a version answer, unless the catalog has gone on to another one.
    fn register(
        &self,
        name: &ModuleName,
        version: &Version,
        module: &Module,
    ) -> Result<(), InstallError> {
        let turns = Turns::of(&version.manifest, self.active().modules.get(name));
        let registration = Registration {
            module: name,
            version: version.number,
            component: module,
            manifest: &version.manifest,
            turns: turns.as_ref().map(|turns| Arc::clone(&turns.semaphore)),
        };
        let loaded = Loaded {
            version: version.number,
            digest: version.digest,
            uploaded_at: version.uploaded_at,
            activated_at: version.activated_at,
            tasks: registration.tasks(&self.defaults, &self.grants)?,
            turns,
        };
        tracing::info!(target: "petiole", "module {name} version {} is active", version.number);
        tell_refused(&loaded.tasks);
        self.replace(|active| active.having(name, loaded));
        Ok(())
    }

    /// Finds out whether an active module has a task that none has here: asks the catalog, and waits a little for a
    /// version that is being loaded for the first time. False where the catalog was not read in time.
    pub(crate) async fn seek(&self, task: &str) -> bool {
        let mut replaced = self.replaced.subscribe();
        let sought = tokio::time::timeout(FIND_PATIENCE, async {
            // What is in the way shows in what is found.
            let _ = self.look().await;
            while self.active().is_coming(task) {
                // The sender lives in `self`.
                let _ = replaced.changed().await;
            }
        });
        sought.await.is_ok() || self.active().is_coming(task)
    }

    /// What a name stands for, as far as the catalog was read.
    pub(crate) fn find(&self, name: &str) -> Found {
        self.active().find(name, Instant::now())
    }

    /// The task of this full name, where it answers here.
    pub fn task(&self, name: &str) -> Option<Arc<RegisteredTask>> {
        self.active().tasks.get(name).cloned()
    }

    /// How large the body of a message may be whose task is this, in bytes; the worker's own limit where there is no
    /// such task, and the most that a manifest may ask for where its module is not loaded.
    pub(crate) fn argument_limit(&self, found: &Found) -> usize {
        match found {
            Found::Task(task) => task.limits.arguments,
            Found::NotLoaded { .. } | Found::Refused { .. } => self.defaults.most.arguments,
            Found::Unknown => self.defaults.limits.arguments,
        }
    }

    /// Why a task does not answer here now, though an active module may have it.
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

    /// What is active in the catalog and does not answer here, in the order of the modules' names.
    pub fn not_loaded(&self) -> Vec<NotLoaded> {
        self.active().not_loaded()
    }

    /// What of the host keeps this worker from having all that is active; none where it has all, but for what it
    /// refuses. Short: for readiness.
    pub fn unready(&self) -> Option<String> {
        self.active().unready()
    }

    /// How far this worker is.
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

    /// The versions in the store. It blocks; what it changes shows here after [`refresh`](Self::refresh).
    pub fn catalog(&self) -> Catalog {
        self.store.catalog()
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

    /// Two modules can't answer for the same task name, whether the other one is loaded here or not.
    fn check_names(
        &self,
        module: &ModuleName,
        tasks: &[Arc<RegisteredTask>],
    ) -> Result<(), SettingsError> {
        let active = self.active();
        for task in tasks {
            if let Some(other) = active.owner(&task.name).filter(|other| other != module) {
                return Err(SettingsError::NameTaken {
                    task: task.name.clone(),
                    module: other,
                });
            }
        }
        Ok(())
    }

    async fn signer(
        &self,
        name: &ModuleName,
        component: &Arc<[u8]>,
        upload: &Upload,
    ) -> Result<Option<KeyId>, InstallError> {
        let Some(policy) = self.signatures.clone() else {
            return Ok(None);
        };
        let (name, component, upload) = (name.clone(), Arc::clone(component), upload.clone());
        let checked = tokio::task::spawn_blocking(move || -> Result<_, SignatureError> {
            let signed = Signed {
                name: &name,
                component: &component,
                manifest: upload.manifest_toml(),
            };
            policy.check(signed, upload.signature())
        });
        Ok(checked.await.map_err(RegistryError::from)??)
    }

    async fn keep(
        &self,
        name: ModuleName,
        component: Arc<[u8]>,
        digest: Digest,
        upload: Upload,
        now: Timestamp,
    ) -> Result<VersionNumber, RegistryError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            store.put_as(&digest, &component)?;
            let size = u64::try_from(component.len()).unwrap_or(u64::MAX);
            let by = upload.by().to_owned();
            let number = store.catalog().add(&name, digest, size, upload, now)?;
            store.catalog().activate(&name, number, &by, now)?;
            Ok(number)
        })
        .await?
    }
}

/// Says why a version is not loaded, where it was not for that reason before.
fn tell_failed(name: &ModuleName, version: VersionNumber, before: &Active, now: &Active) {
    let why = |active: &Active| active.missing.get(name).map(|missing| missing.why.clone());
    match (why(before), why(now)) {
        (Some(Why::Passing { reason: old, .. }), Some(Why::Passing { reason, .. }))
            if old == reason =>
        {
            tracing::debug!(target: "petiole", "module {name} version {version} is still not loaded: {reason}");
        }
        (_, Some(Why::Passing { reason, .. })) => {
            tracing::error!(target: "petiole", "module {name} version {version} is not loaded, its messages wait, and it is tried again: {reason}");
        }
        (_, Some(Why::Refused { reason })) => {
            tracing::error!(target: "petiole", "module {name} version {version} is refused: {reason}");
        }
        (_, Some(Why::New) | None) => {}
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

/// What this worker does not give to tasks that ask for it; others that share the store may.
fn tell_refused(tasks: &[Arc<RegisteredTask>]) {
    let mut told: Vec<&Arc<TaskGrants>> = Vec::new();
    for task in tasks {
        if told.iter().any(|told| Arc::ptr_eq(told, &task.grants)) {
            continue;
        }
        for refused in &task.grants.refused {
            tracing::warn!(target: "petiole", "task {} asks for {refused}, which this worker's policy does not allow", task.name);
        }
        told.push(&task.grants);
    }
}

#[cfg(test)]
mod tests;
