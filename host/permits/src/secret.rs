//! Values that are never shown.

use std::borrow::Cow;
use std::fmt::{self, Debug, Display, Formatter};

/// Stands for a secret wherever it would be shown.
pub const REDACTED: &str = "***";

/// Shorter values are not searched for in texts, in bytes: they would be found everywhere, and what was left
/// would tell them.
pub const MIN_REDACTED: usize = 4;

/// A value that `Debug` and `Display` do not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The values to take out of texts.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that begins another one does not leave the other's end.
    secrets: Vec<Secret>,
}

impl Redactor {
    /// Takes out these, and each line of those that have several, for logs are written line by line; where
    /// they are at least [`MIN_REDACTED`] bytes long.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<Secret> = secrets
            .into_iter()
            .flat_map(|secret| secret.0.lines().chain([secret.expose()]))
            .filter(|secret| secret.len() >= MIN_REDACTED)
            .map(Secret::from)
            .collect();
        secrets.sort_by(|a, b| (b.0.len(), &b.0).cmp(&(a.0.len(), &a.0)));
        secrets.dedup();
        Self { secrets }
    }

    /// True if there is nothing to take out.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Counts the bytes at the text's end that may begin a secret whose rest is still to come, with all of a
    /// secret that a cut before them would go through.
    pub fn unfinished(&self, text: &[u8]) -> usize {
        let begins = |secret: &Secret| {
            let secret = secret.0.as_bytes();
            let longest = text.len().min(secret.len().saturating_sub(1));
            let ends_so = |length: &usize| {
                secret
                    .get(..*length)
                    .is_some_and(|begin| text.ends_with(begin))
            };
            (1..=longest).rev().find(ends_so).unwrap_or(0)
        };
        let unfinished = self.secrets.iter().map(begins).max().unwrap_or(0);
        let mut cut = text.len().saturating_sub(unfinished);
        while let Some(start) = self
            .secrets
            .iter()
            .find_map(|secret| across(secret, text, cut))
        {
            cut = start;
        }
        text.len().saturating_sub(cut)
    }

    /// The text with every secret in it replaced.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.expose()) {
                text = Cow::Owned(text.replace(secret.expose(), REDACTED));
            }
        }
        text
    }
}

/// The start of the secret that a cut would go through. They are found one after another, as [`str::replace`] does.
fn across(secret: &Secret, text: &[u8], cut: usize) -> Option<usize> {
    let secret = secret.0.as_bytes();
    let mut start = 0;
    while start < cut {
        if !text.get(start..)?.starts_with(secret) {
            start += 1;
        } else if start + secret.len() > cut {
            return Some(start);
        } else {
            start += secret.len();
        }
    }
    None
}
