//! The signatures that a module needs. The format is minisign's: Ed25519 over the BLAKE2b-512 of the
//! component, and over a trusted comment. That comment covers what else decides on a module's rights:
//!
//! ```text
//! trusted comment: timestamp:1763824000 manifest-sha256:<sha256 of the manifest's TOML> module:my_app.tasks
//! ```
//!
//! White space separates its parts. Without `manifest-sha256:` the module may only come without a
//! manifest; without `module:` it may be pushed under any name.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{PublicKey, Signature};

use crate::{Digest, Manifest, ModuleName, Version};

/// The largest signature file, in bytes. minisign's own have some 300.
pub const MAX_SIGNATURE: usize = 4096;

/// The beginning of the part of the trusted comment that covers the manifest.
pub const MANIFEST_PART: &str = "manifest-sha256:";
/// The beginning of the part of the trusted comment that covers the module's name.
pub const MODULE_PART: &str = "module:";

/// The keys whose modules are taken.
#[derive(Debug, Clone)]
pub struct SigningPolicy {
    keys: Vec<(KeyId, PublicKey)>,
    required: bool,
}

/// The name of a key pair: random, shown as minisign does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

/// The things that a signature has to cover.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The module's name.
    pub name: &'a ModuleName,
    /// The component.
    pub component: &'a [u8],
    /// The manifest as it was written; empty where there is none.
    pub manifest: &'a str,
}

/// A module does not have the signature that it needs, or a key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// Not a key.
    #[error("{text:?} is not a minisign public key: it is one line of base64 that begins with RW")]
    Key {
        /// As it was given, its beginning.
        text: String,
    },
    /// No keys.
    #[error("no module could be taken: signatures are required, and no key is listed")]
    NoKeys,
    /// There is none.
    #[error(
        "module {name} is not signed, and only signed modules are taken: `petiole sign FILE.wasm --key KEY`, or minisign, makes FILE.wasm.minisig"
    )]
    Unsigned {
        /// The module.
        name: ModuleName,
    },
    /// Larger than any signature.
    #[error("the signature has {size} bytes: the limit is {MAX_SIGNATURE}")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Not a signature.
    #[error("the signature is not in minisign's format")]
    Malformed,
    /// Made by an old minisign, over the whole file.
    #[error(
        "the signature is of minisign's legacy kind: sign again with minisign 0.10 or later (before, with its option -H)"
    )]
    Legacy,
    /// By a key that is not trusted here.
    #[error("the signature is by key {key}, which is not trusted here: trusted are {trusted}")]
    UnknownKey {
        /// The key that it is by.
        key: KeyId,
        /// The keys that are trusted.
        trusted: String,
    },
    /// Of something else.
    #[error(
        "the signature by key {key} is not of this component, or was altered: sign this file again"
    )]
    Wrong {
        /// The key that it claims to be by.
        key: KeyId,
    },
    /// The comment says the same thing twice.
    #[error("the signature's trusted comment has {part} more than once")]
    Ambiguous {
        /// The beginning of that part.
        part: &'static str,
    },
    /// The manifest is not covered.
    #[error(
        "the signature does not cover the manifest: sign with `petiole sign FILE.wasm --key KEY --manifest MANIFEST`, or with minisign's option -t 'manifest-sha256:{actual}'"
    )]
    ManifestNotCovered {
        /// The manifest's sha256.
        actual: Digest,
    },
    /// Another manifest is covered.
    #[error(
        "the signature is for another manifest: this one's sha256 is {actual}, the signed one's {signed}"
    )]
    OtherManifest {
        /// This manifest's sha256.
        actual: Digest,
        /// The other's, as the comment says it; its beginning.
        signed: String,
    },
    /// It was signed for another name.
    #[error("the signature is for module {signed}, not for {name}")]
    OtherModule {
        /// This one.
        name: ModuleName,
        /// As the comment says it, its beginning.
        signed: String,
    },
    /// The catalog was changed.
    #[error(
        "the manifest in the catalog is not the one that came with module {name}: push it again"
    )]
    ManifestChanged {
        /// The module.
        name: ModuleName,
    },
}

impl SigningPolicy {
    /// Takes modules signed by one of `keys`: base64 lines, or the texts of minisign's `.pub` files. Unless
    /// `required`, also those without a signature; one that comes along has to be right all the same.
    ///
    /// # Errors
    /// When a key is none, or there is none although signatures are required.
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        required: bool,
    ) -> Result<Self, SigningError> {
        let keys = keys.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        if required && keys.is_empty() {
            return Err(SigningError::NoKeys);
        }
        Ok(Self { keys, required })
    }

    /// Checks a module, and returns the key that signed it.
    ///
    /// # Errors
    /// When it is not signed and has to be, or its signature does not cover all of it.
    pub fn check(
        &self,
        signed: Signed<'_>,
        signature: Option<&str>,
    ) -> Result<Option<KeyId>, SigningError> {
        let Some(text) = signature else {
            return match self.required {
                true => Err(SigningError::Unsigned {
                    name: signed.name.clone(),
                }),
                false => Ok(None),
            };
        };
        let id = KeyId::of_signature(text)?;
        let signature = Signature::decode(text).map_err(|_| SigningError::Malformed)?;
        let key = self.keys.iter().find(|(known, _)| *known == id);
        let (_, key) = key.ok_or_else(|| SigningError::UnknownKey {
            key: id,
            trusted: self.trusted(),
        })?;
        key.verify(signed.component, &signature, false)
            .map_err(|error| match error {
                minisign_verify::Error::UnexpectedAlgorithm
                | minisign_verify::Error::UnsupportedLegacyMode => SigningError::Legacy,
                minisign_verify::Error::InvalidEncoding
                | minisign_verify::Error::InvalidSignature
                | minisign_verify::Error::IoError(_)
                | minisign_verify::Error::UnexpectedKeyId
                | minisign_verify::Error::UnsupportedAlgorithm => SigningError::Wrong { key: id },
            })?;
        covers(signature.trusted_comment(), signed)?;
        Ok(Some(id))
    }

    /// Checks a version that a store holds, as at its upload.
    ///
    /// # Errors
    /// As [`check`](Self::check), and when the catalog's manifest is not the one that came with it.
    pub fn check_version(
        &self,
        name: &ModuleName,
        component: &[u8],
        version: &Version,
    ) -> Result<Option<KeyId>, SigningError> {
        let signed = Signed {
            name,
            component,
            manifest: &version.manifest_toml,
        };
        let key = self.check(signed, version.signature.as_deref())?;
        let manifest = Manifest::from_toml(&version.manifest_toml).ok();
        if key.is_some() && manifest.as_ref() != Some(&version.manifest) {
            return Err(SigningError::ManifestChanged { name: name.clone() });
        }
        Ok(key)
    }

    fn trusted(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|(id, _)| id.to_string()).collect();
        match keys.as_slice() {
            [] => "none".to_owned(),
            keys => keys.join(", "),
        }
    }
}

fn key(text: &str) -> Result<(KeyId, PublicKey), SigningError> {
    let wrong = || SigningError::Key {
        text: beginning(text),
    };
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("RW"));
    let line = line.ok_or_else(wrong)?;
    let key = PublicKey::from_base64(line).map_err(|_| wrong())?;
    let id = KeyId::within(line).ok_or_else(wrong)?;
    Ok((id, key))
}

/// Checks that the trusted comment covers manifest and name.
fn covers(comment: &str, signed: Signed<'_>) -> Result<(), SigningError> {
    let manifest = part(comment, MANIFEST_PART)?;
    let actual = Digest::of(signed.manifest.as_bytes());
    match manifest {
        None if signed.manifest.is_empty() => {}
        None => return Err(SigningError::ManifestNotCovered { actual }),
        Some(digest) if digest.parse() == Ok(actual) => {}
        Some(digest) => {
            return Err(SigningError::OtherManifest {
                actual,
                signed: beginning(digest),
            });
        }
    }
    match part(comment, MODULE_PART)? {
        Some(name) if name != signed.name.as_str() => Err(SigningError::OtherModule {
            name: signed.name.clone(),
            signed: beginning(name),
        }),
        _ => Ok(()),
    }
}

/// The rest of the one word that begins with `start`.
fn part<'a>(comment: &'a str, start: &'static str) -> Result<Option<&'a str>, SigningError> {
    let mut found = comment
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(start));
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(SigningError::Ambiguous { part: start }),
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(80).collect()
}

impl KeyId {
    /// The key that a signature claims to be by. The claim proves nothing.
    ///
    /// # Errors
    /// When it is not a signature.
    pub fn of_signature(text: &str) -> Result<Self, SigningError> {
        if text.len() > MAX_SIGNATURE {
            return Err(SigningError::TooLarge { size: text.len() });
        }
        let line = text.lines().nth(1);
        line.and_then(Self::within).ok_or(SigningError::Malformed)
    }

    /// Keys and signatures begin with two bytes for the algorithm and the key's id.
    fn within(line: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(line.trim()).ok()?;
        Some(Self(*bytes.get(2..)?.first_chunk()?))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}
