//! The active modules and their tasks.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use petiole_modules::{
    Catalog, CatalogError, Digest, Generation, Manifest, ModuleName, Store, StoreError,
    VersionNumber,
};
use petiole_runtime::{Cache, CompileError, Compiler, LoadError, Runtime};

use crate::config::TaskDefaults;
use crate::registered::{RegisteredTask, SettingsError, registered};

/// The tasks of the modules that are active in a store. What another process activates there shows after
/// [`refresh`](Registry::refresh); a task that runs keeps the version it began with.
pub struct Registry {
    store: Store,
    runtime: Runtime,
    cache: Cache,
    compiler: Compiler,
    defaults: TaskDefaults,
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
    tasks: Vec<Arc<RegisteredTask>>,
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
    /// Not a component that can be run here.
    #[error(transparent)]
    Load(#[from] LoadError),
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
            Self::Name(_) | Self::Settings(_) => true,
            Self::Load(LoadError::Compile(error)) => match error {
                CompileError::NotWasm { .. }
                | CompileError::CoreModule
                | CompileError::TooLarge { .. }
                | CompileError::Invalid { .. }
                | CompileError::TooSlow { .. }
                | CompileError::Crashed { .. } => true,
                CompileError::Host(_) => false,
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
    ) -> Result<Arc<Self>, RegistryError> {
        let url = store_url.to_owned();
        let store = tokio::task::spawn_blocking(move || Store::open(&url)).await??;
        let registry = Arc::new(Self {
            store,
            runtime,
            cache,
            compiler,
            defaults,
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
        manifest: Manifest,
        now: Timestamp,
    ) -> Result<Installed, InstallError> {
        let name: ModuleName = name.parse()?;
        let module = self
            .runtime
            .load(name.as_str(), &component, &self.cache, &self.compiler)
            .await?;
        let digest = Digest::of(&component);
        let refused = module.refused().to_vec();
        self.check_names(
            &name,
            &registered(&name, 0, &module, &manifest, &self.defaults)?,
        )?;
        let version = self.keep(name.clone(), component, manifest, now).await?;
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
            if let Some(same) =
                old.filter(|old| old.version == version.number && old.digest == version.digest)
            {
                modules.insert(module.name.clone(), same.clone());
                continue;
            }
            match self.load(&module.name, version).await {
                Ok(loaded) => {
                    tracing::info!(target: "petiole", "module {} version {} is active", module.name, version.number);
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

    /// All tasks, in the order of their names.
    pub fn tasks(&self) -> Vec<Arc<RegisteredTask>> {
        let mut tasks: Vec<_> = self.active().tasks.values().cloned().collect();
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        tasks
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

    async fn keep(
        &self,
        name: ModuleName,
        component: Vec<u8>,
        manifest: Manifest,
        now: Timestamp,
    ) -> Result<VersionNumber, RegistryError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let digest = store.put(&component)?;
            let size = u64::try_from(component.len()).unwrap_or(u64::MAX);
            let number = store.catalog().add(&name, digest, size, manifest, now)?;
            store.catalog().activate(&name, number)?;
            Ok(number)
        })
        .await?
    }

    async fn load(
        &self,
        name: &ModuleName,
        version: &petiole_modules::Version,
    ) -> Result<Loaded, InstallError> {
        let (store, digest) = (self.store.clone(), version.digest);
        let component = tokio::task::spawn_blocking(move || store.get(&digest))
            .await
            .map_err(RegistryError::from)?
            .map_err(RegistryError::from)?;
        let module = self
            .runtime
            .load(name.as_str(), &component, &self.cache, &self.compiler)
            .await?;
        let tasks = registered(
            name,
            version.number,
            &module,
            &version.manifest,
            &self.defaults,
        )?;
        Ok(Loaded {
            version: version.number,
            digest: version.digest,
            tasks,
        })
    }
}

impl Active {
    fn of(modules: HashMap<ModuleName, Loaded>) -> Self {
        let tasks = modules
            .values()
            .flat_map(|loaded| &loaded.tasks)
            .map(|task| (task.name.clone(), Arc::clone(task)))
            .collect();
        Self { modules, tasks }
    }
}
