//! The types that settings have: how each is read from a text, and what it wants.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf, absolute};

use petiole_permits::{ServiceUrl, Size, SizeError};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::units::{Count, LogFormat, LogLevel, Seconds, Share};
use petiole_permits::url::{redact, redact_text};

/// The type of a setting, as it is written.
pub(crate) trait Setting: Serialize + DeserializeOwned {
    /// Reads what flags and the environment have; the error says what is wanted.
    fn from_text(_: &str) -> Result<Self, String> {
        Err("only the file has it".to_owned())
    }

    /// Makes the paths in it start at a folder: that of the file in which it is written.
    fn start_at(&mut self, _: &Path) {}
}

/// [`Setting::from_text`] for a flag.
pub(crate) fn from_text<T: Setting>(text: &str) -> Result<T, String> {
    T::from_text(text)
}

/// Types that say themselves what they want.
macro_rules! says_itself {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|reason: String| redact_text(&reason))
            }
        }
    )*};
}
says_itself!(Count, LogFormat, LogLevel, Seconds, Share);

impl Setting for Size {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: SizeError| redact_text(&error.to_string()))
    }
}

/// The standard library's types, whose own errors speak of Rust; by what serde calls them too.
macro_rules! wants {
    ($($type:ty, $name:literal: $wants:expr;)*) => {
        $(impl Setting for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.trim()
                    .parse()
                    .map_err(|_| format!("{:?} is not {}", redact(text), $wants))
            }
        })*

        /// The form that is wanted, by serde's name for the type.
        pub(super) fn wanted_as(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some($wants),)*
                _ => None,
            }
        }
    };
}
wants! {
    NonZeroU16, "a nonzero u16": "a whole number from 1 to 65535";
    NonZeroU32, "a nonzero u32": "a whole number from 1 to 4294967295";
    u32, "u32": "a whole number from 0 to 4294967295";
    bool, "a boolean": "true or false";
    SocketAddr, "socket address": ADDRESS;
}

pub(super) const ADDRESS: &str = "an IP address with its port, for example 127.0.0.1:8000";

impl Setting for ServiceUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Setting for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Setting for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn start_at(&mut self, folder: &Path) {
        let path = folder.join(&*self);
        // Only fails for an empty path, or where there is no working directory.
        *self = absolute(&path).unwrap_or(path);
    }
}

impl<T: Setting> Setting for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }

    fn start_at(&mut self, folder: &Path) {
        if let Some(setting) = self {
            setting.start_at(folder);
        }
    }
}

impl Setting for Vec<String> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(parts(text).map(str::to_owned).collect())
    }
}

impl Setting for BTreeMap<String, NonZeroU16> {}

impl Setting for BTreeMap<String, PathBuf> {
    fn start_at(&mut self, folder: &Path) {
        self.values_mut().for_each(|path| path.start_at(folder));
    }
}

/// The parts between commas.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// A table in the order in which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InOrder<T>(pub Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
