//! A module's entry in the catalog: pure, the catalog reads and writes it.

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn module(versions: u32) -> Module {
        let mut module = Module::new("my_app.tasks".parse().unwrap());
        for n in 1..=versions {
            assert_eq!(add(&mut module, n), n);
        }
        module
    }

    fn add(module: &mut Module, content: u32) -> VersionNumber {
        module
            .add(
                Digest::of(&content.to_be_bytes()),
                4,
                Upload::new("a test"),
                Timestamp::UNIX_EPOCH,
            )
            .unwrap()
    }

    #[test]
    fn the_catalog_tells_whose_a_task_is() {
        let upload = |tasks: Option<&[&str]>| {
            let upload = Upload::new("a test").with_manifest("[tasks.add]\nname = 'sums.plus'");
            match tasks {
                Some(tasks) => upload.unwrap().with_tasks(tasks.iter().copied()),
                None => upload.unwrap(),
            }
        };
        let mut module = module(0);
        let mut add = |upload| {
            module
                .add(Digest::of(b""), 0, upload, Timestamp::UNIX_EPOCH)
                .unwrap();
            let version = module.versions.first().unwrap().clone();
            move |task| version.has_task(&"my_app.tasks".parse().unwrap(), task)
        };
        let old = add(upload(None));
        for (task, has) in [
            ("my_app.tasks.run", true),
            ("sums.plus", true),
            ("my_app.tasks", false),
            ("my_app.tasks.", false),
            ("my_app.tasks_more.run", false),
            ("my_app.run", false),
            ("", false),
        ] {
            assert_eq!(old(task), has, "{task}");
        }
        // The same upload again, by a petiole that keeps the names.
        let new = add(upload(Some(&["sums.plus", "my_app.tasks.sub"])));
        for (task, has) in [
            ("sums.plus", true),
            ("my_app.tasks.sub", true),
            ("my_app.tasks.run", false),
        ] {
            assert_eq!(new(task), has, "{task}");
        }
    }

    #[test]
    fn so_many_names_are_kept_and_no_more() {
        let upload = |names: usize| {
            let names = (0..names).map(|n| format!("a.{n:0>253}"));
            Upload::new("a test").with_tasks(names).tasks
        };
        let most = crate::upload::MAX_NAMES / 255;
        assert_eq!(upload(most).map(|tasks| tasks.len()), Some(most));
        assert_eq!(upload(most + 1), None);
    }

    #[test]
    fn rollback_goes_back_step_by_step() {
        let mut module = module(3);
        assert!(module.active_version().is_none());
        for number in [1, 2, 2, 3] {
            module
                .activate(number, "a test", Timestamp::UNIX_EPOCH)
                .unwrap();
        }
        assert_eq!(
            (module.active, module.previous.clone()),
            (Some(3), vec![1, 2])
        );
        assert_eq!(module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap(), 2);
        assert_eq!(module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap(), 1);
        assert!(matches!(
            module.rollback("a test", Timestamp::UNIX_EPOCH),
            Err(CatalogError::NoPrevious { .. })
        ));
        assert_eq!(module.active_version().unwrap().number, 1);
    }

    #[test]
    fn the_same_upload_is_the_same_version_and_numbers_are_not_reused() {
        let mut module = module(2);
        assert_eq!(add(&mut module, 1), 1);
        let upload = Upload::new("a test").with_manifest("[defaults]\ntime_limit = 1");
        let other = module
            .add(
                Digest::of(&1_u32.to_be_bytes()),
                4,
                upload.unwrap(),
                Timestamp::UNIX_EPOCH,
            )
            .unwrap();
        assert_eq!(other, 3);
        module.remove(3, false).unwrap();
        assert_eq!(add(&mut module, 9), 4);
    }

    #[test]
    fn an_active_version_is_removed_by_force_only() {
        let mut module = module(3);
        for number in [1, 2, 1, 3] {
            module
                .activate(number, "a test", Timestamp::UNIX_EPOCH)
                .unwrap();
        }
        assert!(matches!(
            module.remove(3, false),
            Err(CatalogError::ActiveVersion { number: 3, .. })
        ));
        assert!(matches!(
            module.remove(7, false),
            Err(CatalogError::UnknownVersion { number: 7, .. })
        ));
        module.remove(2, false).unwrap();
        assert_eq!(module.previous, [1]);
        module.remove(3, true).unwrap();
        assert_eq!(
            (
                module.active,
                module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap()
            ),
            (None, 1)
        );
    }

    #[test]
    fn a_rollback_never_goes_to_the_active_version() {
        let mut module = module(2);
        for number in [1, 2, 1] {
            module
                .activate(number, "a test", Timestamp::UNIX_EPOCH)
                .unwrap();
        }
        module.remove(2, false).unwrap();
        assert!(matches!(
            module.rollback("a test", Timestamp::UNIX_EPOCH),
            Err(CatalogError::NoPrevious { .. })
        ));
        assert_eq!(module.active, Some(1));
    }

    #[test]
    fn the_same_version_comes_back_after_a_removal() {
        let mut module = module(2);
        for number in [1, 2] {
            module
                .activate(number, "a test", Timestamp::UNIX_EPOCH)
                .unwrap();
        }
        module.remove(2, true).unwrap();
        module.activate(1, "a test", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((module.active, module.previous), (Some(1), vec![]));
    }

    #[test]
    fn old_versions_are_pruned_but_not_those_in_use() {
        let kept = u32::try_from(VERSIONS_KEPT).unwrap();
        let mut module = module(2);
        module.activate(1, "a test", Timestamp::UNIX_EPOCH).unwrap();
        module.activate(2, "a test", Timestamp::UNIX_EPOCH).unwrap();
        for n in 3..=kept + 5 {
            add(&mut module, n);
        }
        let numbers: Vec<_> = module
            .versions
            .iter()
            .map(|version| version.number)
            .collect();
        assert_eq!(numbers.len(), VERSIONS_KEPT);
        assert_eq!(numbers.first_chunk(), Some(&[1, 2, 8]));
        for round in 0..2 * kept {
            module
                .activate(
                    if round % 2 == 0 { 1 } else { 2 },
                    "a test",
                    Timestamp::UNIX_EPOCH,
                )
                .unwrap();
        }
        assert!(module.previous.len() <= VERSIONS_KEPT);
    }

    #[derive(Debug, Clone)]
    enum Change {
        Add(u32),
        Activate(u32),
        Rollback,
        Remove(u32, bool),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..150_u32).prop_map(Change::Add),
            (1..150_u32).prop_map(Change::Activate),
            Just(Change::Rollback),
            (1..150_u32, any::<bool>()).prop_map(|(number, force)| Change::Remove(number, force)),
        ]
    }

    proptest! {
        #[test]
        fn any_changes_leave_a_module_that_makes_sense(changes in prop::collection::vec(change(), 0..400)) {
            let mut module = module(0);
            let mut newest = 0;
            for change in changes {
                let before = module.clone();
                let refused = match change {
                    Change::Add(content) => {
                        let number = add(&mut module, content);
                        prop_assert!(module.version(number).is_some());
                        newest = newest.max(number);
                        false
                    }
                    Change::Activate(number) => module.activate(number, "a test", Timestamp::UNIX_EPOCH).is_err(),
                    Change::Rollback => {
                        let to = before.previous.last().copied();
                        prop_assert!(to.is_none() || to != before.active);
                        let refused = module.rollback("a test", Timestamp::UNIX_EPOCH).is_err();
                        prop_assert!(refused || module.active == to);
                        refused
                    }
                    Change::Remove(number, force) => module.remove(number, force).is_err(),
                };
                prop_assert!(!refused || module == before);
                prop_assert!(module.next > newest);
                prop_assert!(module.versions.len() <= VERSIONS_KEPT && module.previous.len() <= VERSIONS_KEPT);
                prop_assert!(module.versions.is_sorted_by(|a, b| a.number < b.number));
                for number in module.active.iter().chain(&module.previous) {
                    prop_assert!(module.version(*number).is_some());
                }
            }
        }
    }
}
