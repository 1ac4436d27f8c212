//! What the settings name outside of the configuration: values, and folders. Only what loads modules looks
//! for it; `petiole send` needs none of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use petiole_permits::{Secret, Size};

use super::ConfigError;
use super::layer::Setting;
use super::machine;
use super::resolve::Resolved;
use super::values::{Privacy, Source};

/// What a worker can give to tasks.
#[derive(Debug)]
pub(crate) struct Outside {
    pub env: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    /// Folders that exist.
    pub folders: BTreeMap<String, PathBuf>,
}

impl Resolved {
    /// What can be used as it is, and will hardly do.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let budget = &self.memory_budget;
        let beyond = beyond(budget.value, machine::memory().map(Size::new));
        let warning = beyond.map(|warning| format!("{}: {warning}", budget.origin));
        warning.into_iter().collect()
    }

    /// Looks that the certificates and keys which URLs name can be read.
    pub(crate) fn certificates(&self) -> Result<(), ConfigError> {
        self.broker
            .check(|urls| petiole_broker::check_files(urls).map_err(|error| error.to_string()))?;
        self.results.check(|url| {
            petiole_storage::results::check_files(url).map_err(|error| error.to_string())
        })?;
        self.keyvalue.check(|url| match url {
            Some(url) => {
                petiole_storage::keyvalue::check_files(url).map_err(|error| error.to_string())
            }
            None => Ok(()),
        })
    }

    /// Reads the values, and looks that the folders are there.
    pub(crate) fn outside(&self) -> Result<Outside, ConfigError> {
        for grant in &self.grants {
            let (glob, allowed) = &grant.value;
            if allowed.capabilities.keyvalue && self.keyvalue.value.is_none() {
                return Err(grant.wrong(format!(
                    "grants.{glob:?} allows keyvalue, and there is none: set keyvalue, for example to \
                     \"redis://localhost/1\" or \"sqlite://keyvalue.db\""
                )));
            }
        }
        let folders = self.folders.iter().map(|(name, folder)| {
            if folder.value.is_dir() {
                return Ok((name.clone(), folder.value.clone()));
            }
            let path = folder.value.display();
            Err(folder.wrong(format!(
                "folders.{name}: {path} is not a folder: make it first"
            )))
        });
        let secrets = read("secrets", &self.secrets, Privacy::Secret)?;
        Ok(Outside {
            env: read("env", &self.env, Privacy::Public)?,
            secrets: secrets
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            folders: folders.collect::<Result<_, _>>()?,
        })
    }
}

fn read(
    table: &str,
    values: &BTreeMap<String, Setting<Source>>,
    privacy: Privacy,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let values = values.iter().map(|(name, source)| {
        let value = source.value.read(privacy, |name| std::env::var_os(name));
        let value = value.map_err(|reason| source.wrong(format!("{table}.{name}: {reason}")))?;
        Ok((name.clone(), value))
    });
    values.collect()
}

/// What is said of a budget that is more than the memory that there is, where the system tells.
fn beyond(budget: Size, memory: Option<Size>) -> Option<String> {
    let memory = memory.filter(|memory| budget > *memory)?;
    Some(format!(
        "memory_budget {budget} is more than the {memory} that this machine or its cgroup has: the system will end the \
         worker before its tasks wait; lower it, or write a part, as in \"50%\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_beyond_the_memory_that_there_is_is_told() {
        let told = |budget, memory: Option<u64>| {
            beyond(Size::new(budget), memory.map(Size::new)).is_some()
        };
        assert!(told(2 << 30, Some(1 << 30)));
        assert!(!told(1 << 30, Some(1 << 30)) && !told(u64::MAX, None));
    }
}
