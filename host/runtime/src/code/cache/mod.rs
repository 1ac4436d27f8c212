//! Compiled code on disk, which nobody but this worker's own compiler has written.

mod capacity;
pub(crate) mod entry;
pub(crate) mod error;
mod key;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::code::cache::capacity::{CAPACITY, Capacity};
use crate::code::cache::error::{CacheError, failed};
use crate::code::cache::key::Key;
use crate::code::engine;

/// A private folder of compiled components. A clone is the same cache; several processes may share one.
///
/// An entry is a folder with the code and its MAC (HMAC-SHA256 with the cache's own key over the
/// entry's name and the code). It appears whole, by one rename, and never changes, but for the time of its
/// last use.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    key: Key,
    /// Of the engine's settings and this crate's version.
    compatibility: [u8; 32],
    capacity: Capacity,
}

impl Cache {
    /// Opens the folder; makes it and its key where they are missing.
    ///
    /// # Errors
    /// When others than this user may use the folder, or it can't be read and written.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        Self::open_with(dir, CAPACITY)
    }

    fn open_with(dir: &Path, capacity: Capacity) -> Result<Self, CacheError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.or_else(failed("making", dir))?;
        let metadata = fs::metadata(dir).or_else(failed("reading", dir))?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return Err(CacheError::NotOwned {
                dir: dir.to_owned(),
                owner: metadata.uid(),
                user,
            });
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CacheError::NotPrivate {
                dir: dir.to_owned(),
                mode,
            });
        }
        let key = Key::read_or_make(dir)?;
        let compatibility = compatibility()?;
        let cache = Self(Arc::new(Inner {
            dir: dir.to_owned(),
            key,
            compatibility,
            capacity,
        }));
        capacity::sweep(cache.dir());
        Ok(cache)
    }

    /// The folder: private, so that it also holds what is being made.
    fn dir(&self) -> &Path {
        &self.0.dir
    }
}

/// Compiled code fits an engine of the same settings on the same kind of CPU.
fn compatibility() -> Result<[u8; 32], CacheError> {
    let engine = engine::compiling().map_err(|error| CacheError::Host(format!("{error:#}")))?;
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    Ok(hasher.0.finalize().into())
}

/// All of what is hashed, not 64 bits of it.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
