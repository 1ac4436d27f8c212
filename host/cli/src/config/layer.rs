//! The layers, and what they say of one setting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::file::{InOrder, Written};
use super::keys::Key;

/// A layer: what is written, and where.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) written: Written,
}

/// Where a layer is written.
#[derive(Debug)]
pub(super) enum Origin {
    File(PathBuf),
    /// By setting, the variable that named it.
    Env(BTreeMap<&'static str, &'static str>),
    Flags,
}

/// A setting's value, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub value: T,
    /// A file, an environment variable, a flag, or `default`.
    pub origin: String,
}

const DEFAULT: &str = "default";

impl<T> Setting<T> {
    pub(super) fn default(value: T) -> Self {
        Self {
            value,
            origin: DEFAULT.to_owned(),
        }
    }

    /// Whether it was set anywhere.
    pub(crate) fn is_given(&self) -> bool {
        self.origin != DEFAULT
    }

    /// The value can't be used; the error names its layer.
    pub(super) fn wrong(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            origin: self.origin.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn check(
        &self,
        valid: impl Fn(&T) -> Result<(), String>,
    ) -> Result<(), ConfigError> {
        valid(&self.value).map_err(|reason| self.wrong(reason))
    }
}

impl Layer {
    pub(super) fn file(path: &Path, written: Written) -> Self {
        Self {
            origin: Origin::File(path.to_owned()),
            written,
        }
    }

    pub(super) fn flags(written: Written) -> Self {
        Self {
            origin: Origin::Flags,
            written,
        }
    }

    fn origin(&self, key: &Key) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Env(used) => format!("env {}", used.get(key.name).unwrap_or(&key.name)),
            Origin::Flags => format!("flag {}", key.flag.unwrap_or(key.name)),
        }
    }
}

/// The layers, the lowest first.
pub(super) struct Layers<'a>(pub(super) &'a [Layer]);

impl Layers<'_> {
    /// What the highest layer says that says anything.
    pub(super) fn given<T>(
        &self,
        key: &Key,
        get: impl Fn(&Written) -> Option<T>,
    ) -> Option<Setting<T>> {
        self.0.iter().rev().find_map(|layer| {
            get(&layer.written).map(|value| Setting {
                value,
                origin: layer.origin(key),
            })
        })
    }

    pub(super) fn or<T>(
        &self,
        key: &Key,
        get: impl Fn(&Written) -> Option<T>,
        default: T,
    ) -> Setting<T> {
        self.given(key, get)
            .unwrap_or_else(|| Setting::default(default))
    }

    pub(super) fn maybe<T>(
        &self,
        key: &Key,
        get: impl Fn(&Written) -> Option<T>,
    ) -> Setting<Option<T>> {
        self.or(key, |written| get(written).map(Some), None)
    }

    /// All entries of a table, the highest layer's first.
    pub(super) fn all<T: Clone>(
        &self,
        key: &Key,
        get: impl Fn(&Written) -> &InOrder<T>,
    ) -> Vec<Setting<(String, T)>> {
        let of = |layer: &Layer| {
            let origin = layer.origin(key);
            let entries = get(&layer.written).0.clone();
            entries.into_iter().map(move |value| Setting {
                value,
                origin: origin.clone(),
            })
        };
        self.0.iter().rev().flat_map(of).collect()
    }

    /// A table by name: of two entries of one name, the higher layer's.
    pub(super) fn named<T: Clone>(
        &self,
        key: &Key,
        get: impl Fn(&Written) -> &InOrder<T>,
    ) -> BTreeMap<String, Setting<T>> {
        let mut table = BTreeMap::new();
        for Setting {
            value: (name, value),
            origin,
        } in self.all(key, get)
        {
            table.entry(name).or_insert(Setting { value, origin });
        }
        table
    }
}
