//! Layers of settings, put together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::ConfigError;
use super::key::Key;

/// Values by their keys.
pub(super) type Values = BTreeMap<String, Value>;

/// The settings of a file, of the environment or of the flags: by key, the value and where exactly it stands.
#[derive(Default)]
pub(crate) struct Layer(BTreeMap<String, (Value, String)>);

impl Layer {
    /// One setting.
    pub(crate) fn of(path: &str, value: String, origin: impl Display) -> Self {
        let mut layer = Self::default();
        layer.set(path, value.into(), origin.to_string());
        layer
    }

    pub(super) fn set(&mut self, path: &str, value: Value, origin: impl Into<String>) {
        self.0.insert(path.to_owned(), (value, origin.into()));
    }

    /// A value's text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).and_then(|(value, _)| value.as_str())
    }
}

/// The place of each setting: a file, a variable, a flag; of a table's entries, each by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(Arc<BTreeMap<String, String>>);

const DEFAULT: &str = "default";

impl Origins {
    /// The place where the setting stands, or `default`.
    pub(crate) fn of(&self, path: &str) -> &str {
        self.0.get(path).map_or(DEFAULT, String::as_str)
    }

    /// The place where an entry of a table stands.
    pub(crate) fn of_entry(&self, table: &str, name: &str) -> &str {
        self.of(&format!("{table}.{name}"))
    }

    /// True if the setting stands anywhere.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Gives a setting the place of another one, from which it follows.
    pub(super) fn follow(&mut self, path: &str, other: &str) {
        if let Some(other) = self.0.get(other).cloned() {
            Arc::make_mut(&mut self.0).insert(path.to_owned(), other);
        }
    }

    /// The setting can't be used; the error names where it stands.
    pub(super) fn wrong(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            origin: self.of(path).to_owned(),
            reason: reason.into(),
        }
    }

    /// The same of a table's entry.
    pub(super) fn wrong_entry(
        &self,
        table: &str,
        name: &str,
        reason: impl Into<String>,
    ) -> ConfigError {
        self.wrong(&format!("{table}.{name}"), reason)
    }

    /// Two settings of which neither is of use without the other: their keys, and whether they are set.
    pub(super) fn check_both(
        &self,
        (one, has_one): (&str, bool),
        (other, has_other): (&str, bool),
    ) -> Result<(), ConfigError> {
        match (has_one, has_other) {
            (true, false) => Err(self.wrong(one, format!("{one} needs {other}"))),
            (false, true) => Err(self.wrong(other, format!("{other} needs {one}"))),
            (true, true) | (false, false) => Ok(()),
        }
    }
}

/// All layers together.
pub(super) struct Merged {
    values: Values,
    pub(super) origins: Origins,
}

impl Merged {
    /// Puts layers together, the lowest first. Of a table, the entries of all are there, those of higher ones first.
    pub(super) fn new(layers: Vec<Layer>, keys: &[Key]) -> Self {
        let (mut values, mut origins) = (Values::new(), BTreeMap::new());
        for (path, (value, origin)) in layers.into_iter().flat_map(|layer| layer.0) {
            let is_table = keys
                .iter()
                .any(|key| key.path == path && key.kind.is_table());
            let value = match (value, values.remove(&path)) {
                (Value::Table(above), below) if is_table => {
                    for name in above.keys() {
                        origins.insert(format!("{path}.{name}"), origin.clone());
                    }
                    added(above, below)
                }
                (value, _) => value,
            };
            values.insert(path.clone(), value);
            origins.insert(path, origin);
        }
        Self {
            values,
            origins: Origins(Arc::new(origins)),
        }
    }

    /// A setting's value, where any layer has one.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ConfigError> {
        let value = self.values.get(path).cloned();
        let value = value.map(Value::try_into).transpose();
        value.map_err(|error| {
            self.origins
                .wrong(path, format!("{path}: {}", error.message()))
        })
    }
}

fn added(mut above: Table, below: Option<Value>) -> Value {
    if let Some(Value::Table(below)) = below {
        for (name, value) in below {
            above.entry(name).or_insert(value);
        }
    }
    Value::Table(above)
}
