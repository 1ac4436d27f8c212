//! A setting's spellings, and the table of settings that each subsystem declares.

use std::path::Path;

use serde::de::Error;
use toml::Value;
use toml::de::ValueDeserializer;

use super::setting::Setting;

/// A setting: how it is spelled, read and shown.
pub(super) struct Key {
    /// In the file, with dots for tables.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// In the environment; the first that is set counts.
    pub(super) variables: Vec<String>,
    pub(super) flag: Option<&'static str>,
    read_text: fn(&str) -> Result<Value, String>,
    read_file: fn(ValueDeserializer, &Path) -> Result<Value, toml::de::Error>,
}

/// Decides how layers add up, and how `config check` shows the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Plain,
    /// URLs, shown without their passwords.
    Url,
    /// A value that is not shown.
    Secret,
    /// A table whose entries are settings of their own.
    Table,
    /// The same, of secrets.
    Secrets,
}

impl Kind {
    pub(super) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Secrets)
    }
}

impl Key {
    pub(super) fn new<T: Setting>(
        path: impl Into<String>,
        kind: Kind,
        variables: Vec<String>,
        flag: Option<&'static str>,
    ) -> Self {
        Self {
            path: path.into(),
            kind,
            variables,
            flag,
            read_text: |text| {
                let value = T::from_text(text)?;
                Value::try_from(value).map_err(|error| error.to_string())
            },
            read_file: |value, folder| {
                let mut value = T::deserialize(value)?;
                value.start_at(folder);
                Value::try_from(value).map_err(toml::de::Error::custom)
            },
        }
    }

    /// The value of a variable's text, or of a flag that is given several times; the error says what is wanted.
    pub(super) fn read_text(&self, text: &str) -> Result<Value, String> {
        (self.read_text)(text)
    }

    /// The value that a file of this folder has.
    pub(super) fn read_file(
        &self,
        value: ValueDeserializer,
        folder: &Path,
    ) -> Result<Value, toml::de::Error> {
        (self.read_file)(value, folder)
    }
}

/// Declares the settings of a subsystem: a row each, with field, type, default, [`Kind`], the key in the file, the
/// variables of the environment, and the flag. `with origins`, to say where a setting stands.
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $section:ident $(with $origins:ident)? {
            $(
                $(#[doc = $field_doc:literal])*
                $field:ident: $type:ty = $default:expr,
                    $kind:ident $path:literal [$($variable:literal),*] $($flag:literal)?;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $section {
            $($(#[doc = $field_doc])* pub $field: $type,)*
            $(
                /// The places where they are set.
                pub $origins: $crate::config::layer::Origins,
            )?
        }

        impl $section {
            pub(super) fn keys() -> Vec<$crate::config::key::Key> {
                use $crate::config::key::{Key, Kind};
                vec![$(Key::new::<$type>(
                    $path,
                    Kind::$kind,
                    vec![$($variable.to_owned()),*],
                    [$($flag)?].first().copied(),
                ),)*]
            }

            pub(super) fn read(
                merged: &$crate::config::layer::Merged,
            ) -> Result<Self, $crate::config::error::ConfigError> {
                Ok(Self {
                    $($field: match merged.get($path)? {
                        Some(value) => value,
                        None => $default,
                    },)*
                    $($origins: merged.origins.clone(),)?
                })
            }

            /// The values by their keys, those that are set or have a default.
            pub(super) fn values(&self) -> $crate::config::layer::Values {
                let values = [$(($path, toml::Value::try_from(&self.$field).ok()),)*];
                let values = values.into_iter();
                values.filter_map(|(path, value)| Some((path.to_owned(), value?))).collect()
            }
        }
    };
}
pub(super) use settings;
