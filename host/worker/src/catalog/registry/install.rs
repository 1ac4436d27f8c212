//! Installing a version: checked, compiled, stored, activated.

use std::sync::Arc;

use jiff::Timestamp;
use petiole_modules::{
    Component, Digest, KeyId, ModuleName, Signed, SigningError, Upload, VersionNumber,
};
use petiole_runtime::Module;

use super::Registry;
use crate::catalog::active::Loaded;
use crate::catalog::declared::schema;
use crate::catalog::registered::{RegisteredTask, Registration};
use crate::catalog::settings_error::SettingsError;
use crate::catalog::trouble::{InstallError, RegistryError};

/// A version that was installed, is active and loaded.
#[derive(Debug)]
pub struct Installed {
    /// The module.
    pub module: ModuleName,
    /// Its new version.
    pub version: VersionNumber,
    /// The component.
    pub digest: Digest,
    /// The key that signed it, where signatures are looked at.
    pub signed_by: Option<KeyId>,
    /// The tasks that now answer: this version's.
    pub tasks: Vec<Arc<RegisteredTask>>,
    /// Exports that are no tasks, with the reasons.
    pub refused: Vec<petiole_runtime::RefusedExport>,
}

impl Registry {
    /// Checks a component, compiles it, keeps it as a new version of the module and activates it.
    ///
    /// # Errors
    /// When the component is refused, with everything that is wrong with it, or can't be kept: then what was active
    /// before stays so. Or when it was kept, and does not answer here: the error says so.
    pub async fn install(
        &self,
        name: &str,
        component: Component,
        upload: Upload,
        now: Timestamp,
    ) -> Result<Installed, InstallError> {
        let name: ModuleName = name.parse()?;
        let signed_by = self.signer(&name, &component, &upload).await?;
        let module = self.compiled(&name, &component, upload.manifest()).await?;
        let (digest, schema) = (component.digest(), schema(&module));
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
            .keep(name.clone(), component, schema, upload, now)
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
    pub(super) async fn take_over(
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
        component: &Component,
        upload: &Upload,
    ) -> Result<Option<KeyId>, InstallError> {
        let Some(policy) = self.signatures.clone() else {
            return Ok(None);
        };
        let (name, component, upload) = (name.clone(), component.clone(), upload.clone());
        let checked = tokio::task::spawn_blocking(move || -> Result<_, SigningError> {
            let signed = Signed {
                name: &name,
                component: component.bytes(),
                manifest: upload.manifest_toml(),
            };
            policy.check(signed, upload.signature())
        });
        Ok(checked.await.map_err(RegistryError::from)??)
    }

    async fn keep(
        &self,
        name: ModuleName,
        component: Component,
        schema: Vec<u8>,
        upload: Upload,
        now: Timestamp,
    ) -> Result<VersionNumber, RegistryError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            store.put(&component, &schema)?;
            let (digest, size) = (component.digest(), component.size());
            let by = upload.by().to_owned();
            let number = store.catalog().add(&name, digest, size, upload, now)?;
            store.catalog().activate(&name, number, &by, now)?;
            Ok(number)
        })
        .await?
    }
}
