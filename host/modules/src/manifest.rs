#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;

use petiole_permits::{Amount, Amounts, Capabilities, LIMITS, MAX_ASKED};
use serde::{Deserialize, Serialize};

use crate::TaskSettings;

/// The largest manifest that an upload may bring, in bytes.
pub const MAX_MANIFEST: usize = 64 << 10;

/// The longest task name, in bytes: what AMQP's short strings hold (0-9-1 section 4.2.5.3).
const MAX_NAME: usize = 255;

/// The manifest of a component: settings for its tasks. Checked whichever way it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    /// The most tasks of the module that a worker runs at once; none for as many as it has slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU16>,
    /// Capabilities for those of its tasks that do not name their own.
    #[serde(skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
    /// For every task of the module.
    #[serde(skip_serializing_if = "is_default")]
    pub defaults: TaskSettings,
    /// By the function's name in snake_case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, TaskSettings>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    concurrency: Option<NonZeroU16>,
    capabilities: Capabilities,
    defaults: TaskSettings,
    tasks: BTreeMap<String, TaskSettings>,
}

/// A manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than one may be.
    #[error("the manifest has {size} bytes: the limit is {MAX_MANIFEST}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("manifest: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value that makes no sense.
    #[error("manifest: {key}: {reason}")]
    Setting {
        /// Its path, as `tasks.run_task.time_limit`.
        key: String,
        /// The fault in it.
        reason: String,
    },
}

impl Manifest {
    /// Reads a manifest in TOML.
    ///
    /// # Errors
    /// When it is not TOML, has a key that there is none of, or a value that makes no sense.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        toml::from_str::<Unchecked>(text)?.try_into()
    }

    /// The settings of a task, by its function's name in snake_case: its own, else the defaults.
    pub fn settings(&self, function: &str) -> TaskSettings {
        self.tasks
            .get(function)
            .map_or_else(|| self.defaults.clone(), |task| task.or(&self.defaults))
    }

    /// The capabilities that a task asks for: its own, else the module's.
    pub fn capabilities(&self, function: &str) -> &Capabilities {
        let own = self
            .tasks
            .get(function)
            .and_then(|task| task.capabilities.as_ref());
        own.unwrap_or(&self.capabilities)
    }
}

impl TryFrom<Unchecked> for Manifest {
    type Error = ManifestError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ManifestError> {
        let Unchecked {
            concurrency,
            capabilities,
            defaults,
            tasks,
        } = unchecked;
        if defaults.name.is_some() {
            return Err(wrong(
                "defaults",
                "name",
                "a name is one task's: put it under [tasks.FUNCTION]",
            ));
        }
        if defaults.capabilities.is_some() {
            return Err(wrong(
                "defaults",
                "capabilities",
                "for every task, they stand under [capabilities]",
            ));
        }
        check("defaults", &defaults)?;
        check_capabilities("capabilities", &capabilities)?;
        let mut names = BTreeSet::new();
        for (function, task) in &tasks {
            let table = format!("tasks.{function}");
            check_function(function)?;
            check(&table, task)?;
            if let Some(capabilities) = &task.capabilities {
                check_capabilities(&format!("{table}.capabilities"), capabilities)?;
            }
            if let Some(name) = &task.name
                && !names.insert(name)
            {
                return Err(wrong(
                    &table,
                    "name",
                    format!("{name:?} is another task's name too"),
                ));
            }
        }
        Ok(Self {
            concurrency,
            capabilities,
            defaults,
            tasks,
        })
    }
}

fn check_function(function: &str) -> Result<(), ManifestError> {
    if function.contains('-') {
        return Err(wrong(
            "tasks",
            function,
            format!(
                "write the function in snake_case: {}",
                function.replace('-', "_")
            ),
        ));
    }
    if function.is_empty()
        || !function
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return Err(wrong(
            "tasks",
            &format!("{function:?}"),
            "not a function's name",
        ));
    }
    Ok(())
}

fn check(table: &str, settings: &TaskSettings) -> Result<(), ManifestError> {
    check_times(table, &settings.limits)?;
    let Some(name) = &settings.name else {
        return Ok(());
    };
    let is_name = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation();
    if name.is_empty() || !name.chars().all(is_name) {
        let reason =
            format!("{name:?} is not a task's name: write letters, digits and punctuation");
        return Err(wrong(table, "name", reason));
    }
    if name.len() > MAX_NAME {
        let reason = format!("{} bytes are too long: at most {MAX_NAME}", name.len());
        return Err(wrong(table, "name", reason));
    }
    Ok(())
}

fn check_capabilities(table: &str, asked: &Capabilities) -> Result<(), ManifestError> {
    match asked.too_long() {
        Some((key, count)) => {
            let reason = format!("{count} entries are too many: at most {MAX_ASKED}");
            Err(wrong(table, key, reason))
        }
        None => Ok(()),
    }
}

/// Times in which something can run, and soft limits that are shorter than theirs.
fn check_times(table: &str, limits: &Amounts) -> Result<(), ManifestError> {
    for spec in LIMITS {
        let Some(limit) = limits.get(spec.name) else {
            continue;
        };
        if *limit == Amount::Time(Duration::ZERO) {
            return Err(wrong(
                table,
                spec.manifest,
                "a time limit is at least a millisecond",
            ));
        }
        let hard = LIMITS
            .iter()
            .find(|hard| spec.is_soft && hard.name == spec.limit.name());
        if let Some(hard) = hard
            && let Some(allowed) = limits.get(hard.name)
            && limit >= allowed
        {
            let reason = format!(
                "{limit} is not shorter than the {} of {allowed}",
                hard.manifest
            );
            return Err(wrong(table, spec.manifest, reason));
        }
    }
    Ok(())
}

fn wrong(table: &str, key: &str, reason: impl Into<String>) -> ManifestError {
    ManifestError::Setting {
        key: format!("{table}.{key}"),
        reason: reason.into(),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
