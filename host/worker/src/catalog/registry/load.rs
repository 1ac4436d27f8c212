//! Loading the versions that the catalog names: it takes seconds, and is tried again while it fails.

use std::sync::Arc;
use std::time::Instant;

use petiole_modules::{Component, Manifest, ModuleName, Version, VersionNumber};
use petiole_runtime::{Binary, Module};

use super::Registry;
use crate::catalog::active::{Active, Loaded, Why};
use crate::catalog::grants::TaskGrants;
use crate::catalog::registered::{RegisteredTask, Registration};
use crate::catalog::trouble::{InstallError, RegistryError};
use crate::turns::module::Turns;

impl Registry {
    /// Loads all versions that are due.
    pub(super) async fn load_due(&self) {
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
                policy.check_version(&module, component.bytes(), &wanted)?;
            }
            Ok::<_, InstallError>(component)
        });
        let component = component.await.map_err(RegistryError::from)??;
        let module = self.compiled(name, &component, &version.manifest).await?;
        self.register(name, version, &module)
    }

    /// Compiles a component, unless the cache has its code.
    pub(super) async fn compiled(
        &self,
        name: &ModuleName,
        component: &Component,
        manifest: &Manifest,
    ) -> Result<Module, InstallError> {
        let binary = Binary {
            wasm: component.bytes(),
            sha256: *component.digest().as_bytes(),
        };
        let interfaces = self.grants.interfaces(name, manifest);
        let (cache, compiler) = (&self.cache, &self.compiler);
        let loaded = self
            .runtime
            .load(name.as_str(), binary, cache, compiler, interfaces);
        let loaded = loaded.await;
        loaded.map_err(|error| self.grants.refusal(name, manifest, error))
    }

    /// Makes a version answer, unless the catalog has gone on to another one.
    pub(super) fn register(
        &self,
        name: &ModuleName,
        version: &Version,
        module: &Module,
    ) -> Result<(), InstallError> {
        let active = self.active();
        let before = active.modules.get(name);
        let turns = before.and_then(|before| before.turns.as_ref());
        let turns = Turns::of(&version.manifest, turns);
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

/// Logs the capabilities that this worker does not grant to tasks that ask for them; others that share the store may.
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
