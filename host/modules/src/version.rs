//! A module's entry in the catalog: pure, the catalog reads and writes it.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CatalogError, Digest, Manifest, ModuleName, Upload, VERSIONS_KEPT};

/// A version of a module, from 1. No number is used twice within a module.
pub type VersionNumber = u32;

/// One upload of a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Counts the module's uploads.
    pub number: VersionNumber,
    /// The component in the store.
    pub digest: Digest,
    /// The component's size in bytes.
    pub size: u64,
    /// The time at which it came in.
    pub uploaded_at: Timestamp,
    /// The manifest that came with it.
    pub manifest: Manifest,
    /// Its text as it came, which the signature covers. Empty where none came, and in catalogs older
    /// than signatures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest_toml: String,
    /// In minisign's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The full names of its tasks; none in catalogs that did not keep them yet, and where they are more than
    /// [`Upload`] keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
    /// The uploader: `token ci`, `user alice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_by: Option<String>,
    /// The one who made it active the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_by: Option<String>,
    /// The time of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Timestamp>,
}

/// A module and its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// The beginning of its tasks' names.
    pub name: ModuleName,
    /// The version that runs; none before the first activation.
    pub active: Option<VersionNumber>,
    /// The versions that were active before, the latest last.
    pub previous: Vec<VersionNumber>,
    /// Oldest first.
    pub versions: Vec<Version>,
    /// The number of the next version.
    next: VersionNumber,
}

impl Version {
    /// True if a task of this name is this version's, as far as the catalog tells. `module` is the version's module:
    /// where no names were kept, those that begin with the module's are its own, and those that the manifest gives.
    pub fn has_task(&self, module: &ModuleName, task: &str) -> bool {
        let function = task
            .strip_prefix(module.as_str())
            .and_then(|rest| rest.strip_prefix('.'));
        let may_be = self.tasks.is_none() && function.is_some_and(|function| !function.is_empty());
        may_be || self.lists_task(task)
    }

    /// True if the catalog lists a task of this name as this version's.
    pub fn lists_task(&self, task: &str) -> bool {
        match &self.tasks {
            Some(tasks) => tasks.iter().any(|own| own == task),
            None => self.names_task(task),
        }
    }

    /// True if the manifest gives a task this name.
    fn names_task(&self, task: &str) -> bool {
        let mut settings = self.manifest.tasks.values();
        settings.any(|settings| settings.name.as_deref() == Some(task))
    }
}

impl Module {
    pub(crate) fn new(name: ModuleName) -> Self {
        Self {
            name,
            active: None,
            previous: Vec::new(),
            versions: Vec::new(),
            next: 1,
        }
    }

    /// The version of this number.
    pub fn version(&self, number: VersionNumber) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }

    /// The version that runs.
    pub fn active_version(&self) -> Option<&Version> {
        self.active.and_then(|number| self.version(number))
    }

    /// A version with the same component and manifest is that version again.
    pub(crate) fn add(
        &mut self,
        digest: Digest,
        size: u64,
        upload: Upload,
        now: Timestamp,
    ) -> Result<VersionNumber, CatalogError> {
        if let Some(same) = self
            .versions
            .iter_mut()
            .find(|v| v.digest == digest && v.manifest == upload.manifest)
        {
            if upload.signature.is_some() {
                same.signature = upload.signature;
                same.manifest_toml = upload.manifest_toml;
            }
            if upload.tasks.is_some() {
                same.tasks = upload.tasks;
            }
            return Ok(same.number);
        }
        let number = self.next;
        self.next = number
            .checked_add(1)
            .ok_or_else(|| CatalogError::NumbersUsedUp {
                name: self.name.clone(),
            })?;
        self.versions.push(Version {
            number,
            digest,
            size,
            uploaded_at: now,
            manifest: upload.manifest,
            manifest_toml: upload.manifest_toml,
            signature: upload.signature,
            tasks: upload.tasks,
            uploaded_by: Some(upload.by),
            activated_by: None,
            activated_at: None,
        });
        self.prune(number);
        Ok(number)
    }

    fn prune(&mut self, added: VersionNumber) {
        let kept = [self.active, self.previous.last().copied(), Some(added)];
        while self.versions.len() > VERSIONS_KEPT {
            let Some(oldest) = self
                .versions
                .iter()
                .map(|v| v.number)
                .find(|n| !kept.contains(&Some(*n)))
            else {
                return;
            };
            self.forget(oldest);
        }
    }

    pub(crate) fn activate(
        &mut self,
        number: VersionNumber,
        by: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.check(number)?;
        if self.active == Some(number) {
            return Ok(());
        }
        self.activated(number, by, now);
        self.previous.extend(self.active.replace(number));
        // With none active, the last one before may be this one again.
        self.previous.pop_if(|previous| *previous == number);
        let surplus = self.previous.len().saturating_sub(VERSIONS_KEPT);
        self.previous.drain(..surplus);
        Ok(())
    }

    pub(crate) fn rollback(
        &mut self,
        by: &str,
        now: Timestamp,
    ) -> Result<VersionNumber, CatalogError> {
        let number = self
            .previous
            .pop()
            .ok_or_else(|| CatalogError::NoPrevious {
                name: self.name.clone(),
            })?;
        self.active = Some(number);
        self.activated(number, by, now);
        Ok(number)
    }

    fn activated(&mut self, number: VersionNumber, by: &str, now: Timestamp) {
        let version = self.versions.iter_mut().find(|v| v.number == number);
        if let Some(version) = version {
            version.activated_by = Some(by.to_owned());
            version.activated_at = Some(now);
        }
    }

    /// An active version goes only by force; then none is active.
    pub(crate) fn remove(
        &mut self,
        number: VersionNumber,
        force: bool,
    ) -> Result<(), CatalogError> {
        self.check(number)?;
        if self.active == Some(number) {
            if !force {
                return Err(CatalogError::ActiveVersion {
                    name: self.name.clone(),
                    number,
                });
            }
            self.active = None;
        }
        self.forget(number);
        Ok(())
    }

    fn forget(&mut self, number: VersionNumber) {
        self.versions.retain(|version| version.number != number);
        // A rollback never goes to the version that is active.
        self.previous.retain(|previous| *previous != number);
        self.previous.dedup();
        if self.previous.last().copied() == self.active {
            self.previous.pop();
        }
    }

    fn check(&self, number: VersionNumber) -> Result<(), CatalogError> {
        match self.version(number) {
            Some(_) => Ok(()),
            None => Err(CatalogError::UnknownVersion {
                name: self.name.clone(),
                number,
                there_is: self.versions.iter().map(|version| version.number).collect(),
            }),
        }
    }
}
