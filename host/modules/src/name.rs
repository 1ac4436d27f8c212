use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest module name, in bytes.
const MAX_LENGTH: usize = 255;

/// A module's name: what its tasks' names begin with, a dotted Python path such as `my_app.tasks`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ModuleName(String);

/// A text is not a module's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not dotted identifiers.
    #[error(
        "{text:?} is not a module name: write letters, digits and _, parted by dots, for example my_app.tasks"
    )]
    Identifier {
        /// As it was given, its beginning.
        text: String,
    },
    /// Longer than 255 bytes.
    #[error("a module name of {length} bytes is too long: at most {MAX_LENGTH}")]
    TooLong {
        /// In bytes.
        length: usize,
    },
}

impl ModuleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_identifier(part: &str) -> bool {
    let mut characters = part.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|rest| rest.is_ascii_alphanumeric() || rest == '_')
}

impl TryFrom<String> for ModuleName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if text.len() > MAX_LENGTH {
            return Err(NameError::TooLong { length: text.len() });
        }
        if !text.split('.').all(is_identifier) {
            return Err(NameError::Identifier { text });
        }
        Ok(Self(text))
    }
}

impl FromStr for ModuleName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl From<ModuleName> for String {
    fn from(name: ModuleName) -> Self {
        name.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_identifiers() {
        for name in ["tasks", "my_app.tasks", "_a.B2.c_", &"a".repeat(255)] {
            assert_eq!(
                name.parse::<ModuleName>().map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "2a",
            "a-b",
            "a b",
            "a/b",
            "../a",
            "é",
            "a\n",
            &"a".repeat(256),
        ] {
            assert!(name.parse::<ModuleName>().is_err(), "{name}");
        }
    }
}
