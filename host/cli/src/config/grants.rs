//! The reach of tasks beyond their sandbox: grants, and the values, folders and storage that these name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use petiole_permits::{Grant, Policy, Secret, ServiceUrl, is_folder, is_variable};
use petiole_storage::keyvalue;

use super::error::ConfigError;
use super::key::settings;
use super::setting::{InOrder, Setting};
use super::values::{Privacy, Source};

settings! {
    /// The reach of tasks beyond their sandbox: grants, and the values, folders and storage that these name.
    GrantSettings with origins {
        /// The URL of key-value storage.
        keyvalue: Option<ServiceUrl> = None,
            Url "keyvalue" ["PETIOLE_KEYVALUE"];
        /// Environment variables, by name.
        env: BTreeMap<String, Source> = BTreeMap::new(),
            Table "env" [];
        /// The same, of values that are never shown.
        secrets: BTreeMap<String, Source> = BTreeMap::new(),
            Secrets "secrets" [];
        /// Folders, by name.
        folders: BTreeMap<String, PathBuf> = BTreeMap::new(),
            Table "folders" [];
        /// By modules' names, globs too.
        grants: InOrder<Grant> = InOrder::default(),
            Table "grants" [];
    }
}

impl Setting for InOrder<Grant> {}

/// Values and folders that a worker can give to tasks.
#[derive(Debug)]
pub(crate) struct Outside {
    pub env: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    /// Folders that exist.
    pub folders: BTreeMap<String, PathBuf>,
}

impl GrantSettings {
    /// The capabilities that modules may be given.
    pub(crate) fn policy(&self) -> Policy {
        Policy::new(self.grants.0.clone())
    }

    /// True if any module may be given key-value storage.
    pub(crate) fn allows_keyvalue(&self) -> bool {
        let mut grants = self.grants.0.iter();
        grants.any(|(_, grant)| grant.capabilities.keyvalue)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(Err(error)) = self.keyvalue.as_ref().map(keyvalue::check) {
            return Err(self.origins.wrong("keyvalue", error.to_string()));
        }
        self.check_names()?;
        let mut grants = self.grants.0.iter();
        grants.try_for_each(|(glob, grant)| self.check_grant(glob, grant))
    }

    /// The names of values and folders are those that a manifest can ask for.
    fn check_names(&self) -> Result<(), ConfigError> {
        let wrong = |table, name, reason| Err(self.origins.wrong_entry(table, name, reason));
        for (table, values) in [("env", &self.env), ("secrets", &self.secrets)] {
            if let Some(name) = values.keys().find(|name| !is_variable(name)) {
                let reason = format!(
                    "{table}.{name:?} is no variable's name: letters, digits and _, no digit first"
                );
                return wrong(table, name, reason);
            }
        }
        if let Some(name) = self
            .env
            .keys()
            .find(|name| self.secrets.contains_key(*name))
        {
            let reason = format!("{name} is in [env] and in [secrets]: write it in one of them");
            return wrong("env", name, reason);
        }
        match self.folders.keys().find(|name| !is_folder(name)) {
            Some(name) => {
                let reason = format!(
                    "folders.{name:?}: a folder's name has letters, digits, _, - and ., no . first, and is not tmp"
                );
                wrong("folders", name, reason)
            }
            None => Ok(()),
        }
    }

    /// A grant names only what the configuration has.
    fn check_grant(
        &self,
        glob: &str,
        Grant { capabilities, .. }: &Grant,
    ) -> Result<(), ConfigError> {
        let env = first_missing(&capabilities.env, &self.env).map(|name| ("env", name));
        let secret = first_missing(&capabilities.secrets, &self.secrets);
        let folder = first_missing(capabilities.folders.keys(), &self.folders);
        let missing = env
            .or(secret.map(|name| ("secrets", name)))
            .or(folder.map(|name| ("folders", name)));
        match missing {
            Some((table, name)) => {
                let reason = format!(
                    "grants.{glob:?} allows {name}, and [{table}] does not say what that is"
                );
                Err(self.origins.wrong_entry("grants", glob, reason))
            }
            None => Ok(()),
        }
    }

    /// Checks that the certificates and keys that the storage's URL names can be read.
    pub(super) fn check_files(&self) -> Result<(), ConfigError> {
        match self.keyvalue.as_ref().map(keyvalue::check_files) {
            Some(Err(error)) => Err(self.origins.wrong("keyvalue", error.to_string())),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Reads the values, and looks that the folders are there. Only what loads modules does; `petiole send` needs none
    /// of it.
    pub(crate) fn outside(&self) -> Result<Outside, ConfigError> {
        for (glob, allowed) in &self.grants.0 {
            if allowed.capabilities.keyvalue && self.keyvalue.is_none() {
                let reason = format!(
                    "grants.{glob:?} allows keyvalue, and there is none: set keyvalue, for example to \
                     \"redis://localhost/1\" or \"sqlite://keyvalue.db\""
                );
                return Err(self.origins.wrong_entry("grants", glob, reason));
            }
        }
        if let Some((name, folder)) = self.folders.iter().find(|(_, folder)| !folder.is_dir()) {
            let path = folder.display();
            let reason = format!("folders.{name}: {path} is not a folder: make it first");
            return Err(self.origins.wrong_entry("folders", name, reason));
        }
        let secrets = self.values_of("secrets", &self.secrets, Privacy::Secret)?;
        let secrets = secrets.into_iter();
        Ok(Outside {
            env: self.values_of("env", &self.env, Privacy::Public)?,
            secrets: secrets.map(|(name, value)| (name, value.into())).collect(),
            folders: self.folders.clone(),
        })
    }

    fn values_of(
        &self,
        table: &str,
        values: &BTreeMap<String, Source>,
        privacy: Privacy,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let values = values.iter().map(|(name, source)| {
            let value = source.read(privacy, |name| std::env::var_os(name));
            let value = value.map_err(|reason| {
                self.origins
                    .wrong_entry(table, name, format!("{table}.{name}: {reason}"))
            })?;
            Ok((name.clone(), value))
        });
        values.collect()
    }
}

fn first_missing<'a, T>(
    names: impl IntoIterator<Item = &'a String>,
    table: &BTreeMap<String, T>,
) -> Option<&'a String> {
    names.into_iter().find(|name| !table.contains_key(*name))
}
