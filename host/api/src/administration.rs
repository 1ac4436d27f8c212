//! Changes to the modules of a store, made for the HTTP API, `--store` and `petiole dev` alike: each goes into the
//! audit.

use std::time::Duration;

use jiff::Timestamp;
use petiole_modules::{
    Catalog, CatalogError, Component, ManifestError, ModuleName, NameError, Store, Upload,
    VersionNumber,
};
use petiole_runtime::{CompileError, LoadError};
use petiole_worker::{InstallError, Installed, Registry, workers_with};

use crate::actor::Actor;
use crate::audit::{Action, Audit, Entry};
use crate::documents::{InstalledDocument, ModuleDocument};

/// A store, and the audit of its changes. Functions that are not async block.
#[derive(Debug, Clone)]
pub struct Administration {
    pub(crate) store: Store,
    pub(crate) audit: Audit,
}

/// A change that was made.
#[derive(Debug)]
pub struct Changed<V> {
    /// The module.
    pub module: ModuleName,
    /// The version that it was about; a removal may be about all of them.
    pub version: V,
}

/// A module can't be shown, or is not changed.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// Not a module's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The catalog has no such thing, or fails.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is not taken.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// The kind of an error, as far as it matters to who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing could have this name.
    Malformed,
    /// There is no such module or version.
    Unknown,
    /// The present state of the module stands against it.
    Conflict,
    /// The component, its manifest or its signature is not taken.
    Refused,
    /// Others come first: the same may do later.
    Busy,
    /// It is in the store, and does not answer here yet.
    NotFollowed,
    /// The store or the machine fails.
    Host,
}

/// All modules of a store. It blocks.
///
/// # Errors
/// When the store can't be read.
pub fn modules(store: &Store) -> Result<Vec<ModuleDocument>, AdministrationError> {
    let modules = store.catalog().list()?;
    let workers = store.workers().map_err(CatalogError::from)?;
    let document = |module| ModuleDocument::new(module, &workers);
    Ok(modules.into_iter().map(document).collect())
}

/// One module of a store. It blocks.
///
/// # Errors
/// When there is none of this name, or the store can't be read.
pub fn module(store: &Store, name: &str) -> Result<ModuleDocument, AdministrationError> {
    let module = store.catalog().show(&name.parse()?)?;
    let workers = store.workers().map_err(CatalogError::from)?;
    Ok(ModuleDocument::new(module, &workers))
}

impl Administration {
    /// Changes are made in `store` and recorded in `audit`.
    pub fn new(store: Store, audit: Audit) -> Self {
        Self { store, audit }
    }

    /// Installs a component as a module's active version, by a registry of the same store. `manifest` is in TOML, empty
    /// for none; the signature in minisign's format.
    ///
    /// # Errors
    /// When it or its manifest is refused, it can't be kept, or does not answer in this registry.
    pub async fn install(
        &self,
        registry: &Registry,
        actor: Actor,
        name: &str,
        component: Component,
        manifest: &str,
        signature: Option<String>,
    ) -> Result<Installed, AdministrationError> {
        let digest = component.digest();
        let install = async {
            let mut upload = Upload::new(actor.name()).with_manifest(manifest)?;
            if let Some(signature) = signature {
                upload = upload.with_signature(signature);
            }
            let installed = registry.install(name, component, upload, Timestamp::now());
            Ok::<_, AdministrationError>(installed.await?)
        };
        let installed = install.await;
        let entry = Entry::upload(name, digest, manifest, &installed);
        self.audit.record_async(actor, entry).await;
        installed
    }

    /// The answer to an install, as soon as all workers have the version, or after so long.
    pub async fn shared(&self, installed: &Installed, wait: Duration) -> InstalledDocument {
        let workers = workers_with(&self.store, &installed.module, installed.version, wait).await;
        // It is installed, whatever the workers' folder says.
        InstalledDocument::new(installed, &workers.unwrap_or_default())
    }

    /// Makes a version the active one.
    ///
    /// # Errors
    /// When there is no such version, or the store fails.
    pub fn activate(
        &self,
        actor: &Actor,
        name: &str,
        version: VersionNumber,
    ) -> Result<Changed<VersionNumber>, AdministrationError> {
        self.change(Action::Activate, actor, name, |catalog, name, now| {
            catalog.activate(name, version, &actor.name(), now)?;
            Ok(version)
        })
    }

    /// Goes back to the version before.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub fn rollback(
        &self,
        actor: &Actor,
        name: &str,
    ) -> Result<Changed<VersionNumber>, AdministrationError> {
        self.change(Action::Rollback, actor, name, |catalog, name, now| {
            catalog.rollback(name, &actor.name(), now)
        })
    }

    /// Removes a version, or the whole module where none is named. One that is active is removed by `force` only.
    ///
    /// # Errors
    /// When there is no such module or version, it is active, or the store fails.
    pub fn remove(
        &self,
        actor: &Actor,
        name: &str,
        version: Option<VersionNumber>,
        force: bool,
    ) -> Result<Changed<Option<VersionNumber>>, AdministrationError> {
        self.change(Action::Remove, actor, name, |catalog, name, now| {
            catalog.remove(name, version, force, now)?;
            Ok(version)
        })
    }

    /// Records a request that makes no sense.
    pub(crate) async fn refuse(&self, actor: Actor, action: Action, name: &str, reason: &str) {
        let entry = Entry::refused(action, Some(name), Some(reason.to_owned()));
        self.audit.record_async(actor, entry).await;
    }

    fn change<V: Copy + Into<Option<VersionNumber>>>(
        &self,
        action: Action,
        actor: &Actor,
        name: &str,
        work: impl FnOnce(&Catalog, &ModuleName, Timestamp) -> Result<V, CatalogError>,
    ) -> Result<Changed<V>, AdministrationError> {
        let changed = || {
            let module: ModuleName = name.parse()?;
            let version = work(&self.store.catalog(), &module, Timestamp::now())?;
            Ok::<_, AdministrationError>(Changed { module, version })
        };
        let changed = changed();
        let entry = match &changed {
            Ok(changed) => Entry::done(action, name, changed.version.into()),
            Err(error) => Entry::refused(action, Some(name), Some(error.to_string())),
        };
        self.audit.record(actor, &entry);
        changed
    }
}

impl AdministrationError {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Name(_) | Self::Install(InstallError::Name(_)) => Kind::Malformed,
            Self::Catalog(
                CatalogError::UnknownModule { .. } | CatalogError::UnknownVersion { .. },
            ) => Kind::Unknown,
            Self::Catalog(CatalogError::ActiveVersion { .. } | CatalogError::NoPrevious { .. }) => {
                Kind::Conflict
            }
            Self::Catalog(_) => Kind::Host,
            Self::Install(InstallError::Load(LoadError::Compile(CompileError::Busy))) => Kind::Busy,
            Self::Install(InstallError::Superseded { .. }) => Kind::Conflict,
            Self::Install(InstallError::NotFollowed { .. }) => Kind::NotFollowed,
            Self::Manifest(_) => Kind::Refused,
            Self::Install(error) if error.is_refusal() => Kind::Refused,
            Self::Install(_) => Kind::Host,
        }
    }
}
