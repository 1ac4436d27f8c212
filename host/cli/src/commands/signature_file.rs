//! Signature files, beside their components.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use petiole_modules::{KeyId, MAX_SIGNATURE};

use crate::exit::{Failure, Result};

/// The path at which minisign puts a file's signature: `FILE.minisig`.
pub(super) fn path(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".minisig");
    name.into()
}

/// The signature of `file`: the one that is named, or the one beside it, where there is one.
pub(super) fn read(file: &Path, named: Option<&Path>) -> Result<Option<String>> {
    let beside = path(file);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(None),
    };
    let limit = u64::try_from(MAX_SIGNATURE).unwrap_or(u64::MAX);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_string(&mut text))
        .with_context(|| format!("can't read the signature {}", path.display()))
        .map_err(Failure::usage)?;
    KeyId::of_signature(&text)
        .map_err(|error| Failure::usage(anyhow!("{}: {error}", path.display())))?;
    Ok(Some(text))
}
