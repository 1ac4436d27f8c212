//! Compiled code on disk, which nobody but this worker's own compiler has written.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::engine;

/// The entries that are kept; past it the oldest go.
const MAX_ENTRIES: usize = 256;

const KEY_FILE: &str = "key";
const CODE_FILE: &str = "code";
const MAC_FILE: &str = "mac";
/// Bytes of the key, and of a MAC.
const KEY_LEN: usize = 32;

/// A private folder of compiled components. A clone is the same cache; several processes may share one.
///
/// An entry is a folder with the code and its MAC (HMAC-SHA256 with the cache's own key over the
/// entry's name and the code). It appears whole, by one rename, and never changes.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    key: Key,
    /// Of the engine's settings and this crate's version.
    compatibility: [u8; 32],
}

struct Key([u8; KEY_LEN]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refuses.
    #[error("compiled code cache: {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others could put code there that this worker would run.
    #[error("compiled code cache: {} is open to others (mode {mode:o}): run `chmod 700` on it, or name another folder", dir.display())]
    NotPrivate {
        /// The folder.
        dir: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key file is damaged.
    #[error("compiled code cache: {} does not hold a key: delete the folder, it is made again", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// No random numbers, no engine, or a task that panicked.
    #[error("compiled code cache: {0}")]
    Host(String),
}

fn failed<T>(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Result<T, CacheError> {
    let path = path.to_owned();
    move |source| {
        Err(CacheError::Io {
            action,
            path,
            source,
        })
    }
}

impl Cache {
    /// Opens the folder; makes it and its key where they are missing.
    ///
    /// # Errors
    /// When others than this user may use the folder, or it can't be read and written.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.or_else(failed("making", dir))?;
        let mode = fs::metadata(dir)
            .or_else(failed("reading", dir))?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(CacheError::NotPrivate {
                dir: dir.to_owned(),
                mode,
            });
        }
        let key = Key(read_or_make_key(dir)?);
        let compatibility = compatibility()?;
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            key,
            compatibility,
        })))
    }

    /// The folder: private, so that it also holds what is being made.
    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The place of this component's compiled code.
    pub(crate) fn entry(&self, wasm: &[u8]) -> Entry {
        let mut name = Sha256::new();
        name.update(Sha256::digest(wasm));
        name.update(self.0.compatibility);
        Entry {
            cache: self.clone(),
            name: format!("{:x}", name.finalize()),
        }
    }
}

/// One component's place in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    cache: Cache,
    name: String,
}

impl Entry {
    /// The path of the code, where there is an entry and its MAC is right. Others are deleted.
    pub(crate) async fn verified(&self) -> Result<Option<PathBuf>, CacheError> {
        let entry = self.clone();
        blocking(move || entry.verify()).await
    }

    /// Makes the entry, and gives the path of its code.
    pub(crate) async fn store(&self, code: Vec<u8>) -> Result<PathBuf, CacheError> {
        let entry = self.clone();
        blocking(move || entry.write(&code)).await
    }

    fn dir(&self) -> PathBuf {
        self.cache.dir().join(&self.name)
    }

    fn verify(&self) -> Result<Option<PathBuf>, CacheError> {
        let dir = self.dir();
        let path = dir.join(CODE_FILE);
        let (code, mac) = match (fs::read(&path), fs::read(dir.join(MAC_FILE))) {
            (Ok(code), Ok(mac)) => (code, mac),
            _ if !dir.exists() => return Ok(None),
            _ => (Vec::new(), Vec::new()),
        };
        if self.mac(&code)?.verify_slice(&mac).is_ok() {
            return Ok(Some(path));
        }
        tracing::warn!(entry = %dir.display(), "compiled code is damaged: compiling again");
        fs::remove_dir_all(&dir).or_else(failed("deleting", &dir))?;
        Ok(None)
    }

    fn write(&self, code: &[u8]) -> Result<PathBuf, CacheError> {
        let dir = self.dir();
        let new = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(self.cache.dir());
        let new = new.or_else(failed("making a folder in", self.cache.dir()))?;
        let mac = self.mac(code)?.finalize().into_bytes();
        write_file(&new.path().join(CODE_FILE), code)?;
        write_file(&new.path().join(MAC_FILE), &mac)?;
        match fs::rename(new.path(), &dir) {
            Ok(()) => self.cache.prune(),
            // another process was first: its code is as good, if it is whole
            Err(_) if self.verify()?.is_some() => {}
            Err(error) => return failed("renaming to", &dir)(error),
        }
        Ok(dir.join(CODE_FILE))
    }

    fn mac(&self, code: &[u8]) -> Result<Hmac<Sha256>, CacheError> {
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.cache.0.key.0);
        let mut mac = mac.map_err(|error| CacheError::Host(error.to_string()))?;
        mac.update(self.name.as_bytes());
        mac.update(code);
        Ok(mac)
    }
}

impl Cache {
    /// Deletes the oldest entries. What can't be deleted now is tried again with the next new entry;
    /// code that is mapped stays usable until it is unmapped.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(self.dir()) else {
            return;
        };
        let mut entries: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok().map(|meta| (meta, entry.path())))
            .filter(|(meta, _)| meta.is_dir())
            .filter_map(|(meta, path)| meta.modified().ok().map(|time| (time, path)))
            .collect();
        entries.sort();
        let excess = entries.len().saturating_sub(MAX_ENTRIES);
        for (_, path) in entries.into_iter().take(excess) {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(entry = %path.display(), %error, "can't delete old compiled code");
            }
        }
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = file.or_else(failed("making", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .or_else(failed("writing", path))
}

/// The key appears whole, by linking: whoever comes second reads the first one's.
fn read_or_make_key(dir: &Path) -> Result<[u8; KEY_LEN], CacheError> {
    let path = dir.join(KEY_FILE);
    if !path.exists() {
        let mut key = [0; KEY_LEN];
        getrandom::fill(&mut key)
            .map_err(|error| CacheError::Host(format!("no random numbers: {error}")))?;
        // tempfile makes files with mode 0600
        let mut file =
            tempfile::NamedTempFile::new_in(dir).or_else(failed("making a file in", dir))?;
        file.write_all(&key)
            .and_then(|()| file.as_file().sync_all())
            .or_else(failed("writing", &path))?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                return failed("making", &path)(error.error);
            }
            _ => {}
        }
    }
    let mut key = Vec::with_capacity(KEY_LEN);
    let file = fs::File::open(&path).or_else(failed("reading", &path))?;
    let limit = u64::try_from(KEY_LEN).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut key)
        .or_else(failed("reading", &path))?;
    key.try_into().map_err(|_| CacheError::Key { path })
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CacheError::Host(error.to_string()))?
}
