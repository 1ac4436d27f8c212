//! The active modules and their tasks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU16;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use petiole_modules::{
    Catalog, CatalogError, Digest, Generation, KeyId, Manifest, ModuleName, SignatureError,
    SignaturePolicy, Signed, Store, StoreError, Upload, VersionNumber,
};
use petiole_runtime::{Cache, CompileError, Compiler, LoadError, Runtime};
use tokio::sync::Semaphore;

use crate::config::TaskDefaults;
use crate::grants::{Grants, TaskGrants};
use crate::not_granted::NotGranted;
use crate::registered::{RegisteredTask, Registration, SettingsError};

/// The tasks of the modules that are active in a store. What another process activates there shows after
/// [`refresh`](Registry::refresh); a task that runs keeps the version it began with.
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
    refreshing: tokio::sync::Mutex<Option<Generation>>,
}

/// What is active now; replaced as a whole.
#[derive(Default)]
struct Active {
    modules: HashMap<ModuleName, Loaded>,
    tasks: HashMap<String, Arc<RegisteredTask>>,
}

#[derive(Clone)]
struct Loaded {
    version: VersionNumber,
    digest: Digest,
    /// With the digest, tells a version from one of its number before the module was removed.
    uploaded_at: Timestamp,
    /// Settles which of two modules has a name.
    activated_at: Option<Timestamp>,
    turns: Option<Turns>,
    tasks: Vec<Arc<RegisteredTask>>,
}

impl Loaded {
    fn is(&self, version: &petiole_modules::Version) -> bool {
        self.version == version.number
            && self.digest == version.digest
            && self.uploaded_at == version.uploaded_at
    }
}

/// The turns of a module's tasks. A next version of the same cap goes on with them, so that both together keep to
/// it; with another cap it begins anew, beside what still runs of the one before.
#[derive(Clone)]
struct Turns {
    cap: NonZeroU16,
    semaphore: Arc<Semaphore>,
}

impl Turns {
    fn of(manifest: &Manifest, before: Option<&Loaded>) -> Option<Self> {
        let cap = manifest.concurrency?;
        let same = before
            .and_then(|before| before.turns.as_ref())
            .filter(|turns| turns.cap == cap);
        Some(same.cloned().unwrap_or_else(|| Self {
            cap,
            semaphore: Arc::new(Semaphore::new(usize::from(cap.get()))),
        }))
    }
}

/// The store or its catalog can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The thread that read them ended early.
    #[error("reading the store was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

/// A component is not taken, or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not a module name.
    #[error(transparent)]
    Name(#[from] petiole_modules::NameError),
    /// Not signed, or not as it has to be.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Not a component that can be run here.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It imports what it is not granted.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// The manifest asks for what there is not.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The store failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl InstallError {
    /// Whether the upload is at fault, not the host.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Name(_) | Self::Signature(_) | Self::NotGranted(_) | Self::Settings(_) => true,
            Self::Load(LoadError::Compile(error)) => match error {
                CompileError::NotWasm { .. }
                | CompileError::CoreModule
                | CompileError::TooLarge { .. }
                | CompileError::Invalid { .. }
                | CompileError::TooSlow { .. }
                | CompileError::Crashed { .. } => true,
                CompileError::Busy | CompileError::Host(_) => false,
            },
            Self::Load(
                LoadError::Imports { .. }
                | LoadError::Incompatible { .. }
                | LoadError::NoTasks { .. },
            ) => true,
            Self::Load(LoadError::Cache(_)) => false,
            Self::Registry(_) => false,
        }
    }
}

/// A version that was installed and is active.
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
    /// The tasks that now answer.
    pub tasks: Vec<Arc<RegisteredTask>>,
    /// Exports that are no tasks, with the reasons.
    pub refused: Vec<petiole_runtime::RefusedExport>,
}

impl Registry {
    /// Opens a store (`file://DIR`) and loads what is active in it.
    ///
    /// # Errors
    /// When the store can't be used. A module that can't be loaded is logged and left out.
    pub async fn open(
        store_url: &str,
        runtime: Runtime,
        cache: Cache,
        compiler: Compiler,
        defaults: TaskDefaults,
        grants: Grants,
        signatures: Option<SignaturePolicy>,
    ) -> Result<Arc<Self>, RegistryError> {
        let url = store_url.to_owned();
        let store = tokio::task::spawn_blocking(move || Store::open(&url)).await??;
        let registry = Arc::new(Self {
            store,
            runtime,
            cache,
            compiler,
            defaults,
            grants,
            signatures,
            active: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
        });
        registry.refresh().await?;
        Ok(registry)
    }

    /// Checks a component, compiles it, keeps it as a new version of the module and activates it.
    ///
    /// # Errors
    /// When the component is refused, with everything that is wrong with it, or can't be kept. What was
    /// active before then stays so.
    pub async fn install(
        &self,
        name: &str,
        component: Vec<u8>,
        upload: Upload,
        now: Timestamp,
    ) -> Result<Installed, InstallError> {
        let name: ModuleName = name.parse()?;
        let signed_by = self.check_signature(&name, &component, &upload)?;
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
        let digest = Digest::of(&component);
        let refused = module.refused().to_vec();
        let registration = Registration {
            module: &name,
            version: 0,
            component: &module,
            manifest: upload.manifest(),
            turns: None,
        };
        self.check_names(&name, &registration.tasks(&self.defaults, &self.grants)?)?;
        let version = self.keep(name.clone(), component, upload, now).await?;
        self.refresh().await?;
        let tasks = self
            .active()
            .modules
            .get(&name)
            .map(|loaded| loaded.tasks.clone())
            .unwrap_or_default();
        Ok(Installed {
            module: name,
            version,
            digest,
            signed_by,
            tasks,
            refused,
        })
    }

    /// Picks up what has become active since the last time. True where anything has.
    ///
    /// # Errors
    /// When the store can't be read; what was active stays so.
    pub async fn refresh(&self) -> Result<bool, RegistryError> {
        let mut seen = self.refreshing.lock().await;
        let catalog = self.store.catalog();
        let known = *seen;
        let snapshot = tokio::task::spawn_blocking(move || match known {
            Some(generation) => catalog.changed_since(generation),
            None => catalog.snapshot().map(Some),
        })
        .await??;
        let Some(snapshot) = snapshot else {
            return Ok(false);
        };

        let before = self.active();
        let mut modules = HashMap::new();
        let mut complete = true;
        for module in &snapshot.modules {
            let Some(version) = module.active_version() else {
                continue;
            };
            let old = before.modules.get(&module.name);
            if let Some(same) = old.filter(|old| old.is(version)) {
                let activated_at = version.activated_at;
                modules.insert(
                    module.name.clone(),
                    Loaded {
                        activated_at,
                        ..same.clone()
                    },
                );
                continue;
            }
            match self.load(&module.name, version, old).await {
                Ok(loaded) => {
                    tracing::info!(target: "petiole", "module {} version {} is active", module.name, version.number);
                    tell_refused(&loaded.tasks);
                    modules.insert(module.name.clone(), loaded);
                }
                Err(error) => {
                    tracing::error!(target: "petiole", "module {} version {}: {error}", module.name, version.number);
                    // A component that is refused will be refused again; a store that failed may answer.
                    complete &= error.is_refusal();
                    modules.extend(old.map(|old| (module.name.clone(), old.clone())));
                }
            }
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Active::of(modules));
        *seen = complete.then_some(snapshot.generation);
        Ok(true)
    }

    /// The task of this full name.
    pub fn task(&self, name: &str) -> Option<Arc<RegisteredTask>> {
        self.active().tasks.get(name).cloned()
    }

    /// How large the body of a message for this task may be, in bytes; the worker's own limit where there is no
    /// such task.
    pub(crate) fn argument_limit(&self, name: &str) -> usize {
        self.task(name)
            .map_or(self.defaults.limits.arguments, |task| task.limits.arguments)
    }

    /// All tasks, in the order of their names.
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

    /// The versions in the store. It blocks; what it changes shows here after [`refresh`](Self::refresh).
    pub fn catalog(&self) -> Catalog {
        self.store.catalog()
    }

    fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Two modules can't answer for the same task name.
    fn check_names(
        &self,
        module: &ModuleName,
        tasks: &[Arc<RegisteredTask>],
    ) -> Result<(), SettingsError> {
        let active = self.active();
        for task in tasks {
            if let Some(other) = active
                .tasks
                .get(&task.name)
                .filter(|other| other.module != *module)
            {
                return Err(SettingsError::NameTaken {
                    task: task.name.clone(),
                    module: other.module.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_signature(
        &self,
        name: &ModuleName,
        component: &[u8],
        upload: &Upload,
    ) -> Result<Option<KeyId>, SignatureError> {
        let Some(policy) = &self.signatures else {
            return Ok(None);
        };
        let signed = Signed {
            name,
            component,
            manifest: upload.manifest_toml(),
        };
        policy.check(signed, upload.signature())
    }

    async fn keep(
        &self,
        name: ModuleName,
        component: Vec<u8>,
        upload: Upload,
        now: Timestamp,
    ) -> Result<VersionNumber, RegistryError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let digest = store.put(&component)?;
            let size = u64::try_from(component.len()).unwrap_or(u64::MAX);
            let by = upload.by().to_owned();
            let number = store.catalog().add(&name, digest, size, upload, now)?;
            store.catalog().activate(&name, number, &by, now)?;
            Ok(number)
        })
        .await?
    }

    async fn load(
        &self,
        name: &ModuleName,
        version: &petiole_modules::Version,
        before: Option<&Loaded>,
    ) -> Result<Loaded, InstallError> {
        let (store, digest) = (self.store.clone(), version.digest);
        let component = tokio::task::spawn_blocking(move || store.get(&digest))
            .await
            .map_err(RegistryError::from)?
            .map_err(RegistryError::from)?;
        // Again, at each load: whoever can write to the store could have changed any of it.
        if let Some(policy) = &self.signatures {
            policy.check_version(name, &component, version)?;
        }
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
        let turns = Turns::of(&version.manifest, before);
        let registration = Registration {
            module: name,
            version: version.number,
            component: &module,
            manifest: &version.manifest,
            turns: turns.as_ref().map(|turns| Arc::clone(&turns.semaphore)),
        };
        Ok(Loaded {
            version: version.number,
            digest: version.digest,
            uploaded_at: version.uploaded_at,
            activated_at: version.activated_at,
            tasks: registration.tasks(&self.defaults, &self.grants)?,
            turns,
        })
    }
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

impl Active {
    /// A name that two modules claim, which uploads at two workers or a rollback can bring about, is the one's
    /// whose own name it begins with, else the one's that became active first. So all workers agree.
    fn of(modules: HashMap<ModuleName, Loaded>) -> Self {
        let mut loaded: Vec<_> = modules.iter().collect();
        loaded.sort_by_key(|(name, loaded)| (loaded.activated_at, *name));
        let all = || loaded.iter().flat_map(|(_, loaded)| &loaded.tasks);
        let claims = all()
            .filter(|task| task.has_default_name())
            .chain(all().filter(|task| !task.has_default_name()));
        let mut tasks: HashMap<String, Arc<RegisteredTask>> = HashMap::new();
        for task in claims {
            match tasks.entry(task.name.clone()) {
                Entry::Vacant(free) => drop(free.insert(Arc::clone(task))),
                Entry::Occupied(taken) => {
                    let (name, module) = (&task.name, &task.module);
                    tracing::error!(
                        target: "petiole",
                        "task {name} of module {module} does not answer: module {} has the name; remove one of them, or rename the task in the manifest",
                        taken.get().module
                    );
                }
            }
        }
        Self { modules, tasks }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_next_version_of_a_module_goes_on_with_its_turns() {
        let manifest = |text: &str| Manifest::from_toml(text).unwrap();
        let loaded = |turns| Loaded {
            version: 1,
            digest: Digest::of(b""),
            uploaded_at: Timestamp::UNIX_EPOCH,
            activated_at: None,
            turns,
            tasks: Vec::new(),
        };
        assert!(Turns::of(&manifest(""), None).is_none());
        let first = Turns::of(&manifest("concurrency = 2"), None).unwrap();
        assert_eq!(first.semaphore.available_permits(), 2);
        let before = loaded(Some(first.clone()));
        let same = Turns::of(&manifest("concurrency = 2"), Some(&before)).unwrap();
        assert!(Arc::ptr_eq(&same.semaphore, &first.semaphore));
        let other = Turns::of(&manifest("concurrency = 3"), Some(&before)).unwrap();
        assert_eq!(other.semaphore.available_permits(), 3);
        assert!(Turns::of(&manifest(""), Some(&before)).is_none());
    }
}
