//! Compiled code on disk, which nobody but this worker's own compiler has written.

pub(crate) mod error;
mod key;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::code::cache::error::{CacheError, failed};
use crate::code::cache::key::Key;
use crate::code::engine;

/// The entries that are kept, and their bytes in all; past either those go that were used longest ago.
const MAX_ENTRIES: usize = 256;
const MAX_BYTES: u64 = 8 << 30;

/// An entry that is being made has a name that begins so, and is gone after the time that it can take; an older one, a
/// process that was killed has left.
const UNFINISHED: &str = "new-";
const UNFINISHED_FOR: Duration = Duration::from_secs(60 * 60);

const CODE_FILE: &str = "code";
const MAC_FILE: &str = "mac";

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
    most: Most,
}

/// What is kept.
#[derive(Debug, Clone, Copy)]
struct Most {
    entries: usize,
    bytes: u64,
}

impl Cache {
    /// Opens the folder; makes it and its key where they are missing.
    ///
    /// # Errors
    /// When others than this user may use the folder, or it can't be read and written.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let most = Most {
            entries: MAX_ENTRIES,
            bytes: MAX_BYTES,
        };
        Self::open_with(dir, most)
    }

    fn open_with(dir: &Path, most: Most) -> Result<Self, CacheError> {
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
            most,
        }));
        cache.remove_unfinished();
        Ok(cache)
    }

    /// The folder: private, so that it also holds what is being made.
    fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The place of the compiled code of the component with this SHA-256.
    pub(crate) fn entry(&self, component: &[u8; 32]) -> Entry {
        let mut name = Sha256::new();
        name.update(component);
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

    /// Begins to make the entry.
    pub(crate) async fn begin(&self) -> Result<NewEntry, CacheError> {
        let entry = self.clone();
        blocking(move || entry.new_entry()).await
    }

    fn dir(&self) -> PathBuf {
        self.cache.dir().join(&self.name)
    }

    fn verify(&self) -> Result<Option<PathBuf>, CacheError> {
        let dir = self.dir();
        let path = dir.join(CODE_FILE);
        // What can't be read now, for want of descriptors or memory, is not damaged: only what is not there is.
        let (actual, mac) = (self.mac(&path)?, read(&dir.join(MAC_FILE))?);
        if actual.is_none() && mac.is_none() && !exists(&dir)? {
            return Ok(None);
        }
        let whole = actual.zip(mac);
        if whole.is_some_and(|(actual, mac)| actual.verify_slice(&mac).is_ok()) {
            // What can't be marked as used is deleted earlier: no reason not to use it.
            let _ = fs::File::open(&dir).and_then(|dir| dir.set_modified(SystemTime::now()));
            return Ok(Some(path));
        }
        tracing::warn!(entry = %dir.display(), "compiled code is damaged: compiling again");
        fs::remove_dir_all(&dir).or_else(failed("deleting", &dir))?;
        Ok(None)
    }

    fn new_entry(&self) -> Result<NewEntry, CacheError> {
        let dir = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(self.cache.dir());
        let dir = dir.or_else(failed("making a folder in", self.cache.dir()))?;
        let entry = self.clone();
        let new = NewEntry { entry, dir };
        write_file(&new.code(), b"")?;
        Ok(new)
    }

    /// The MAC of this entry with the code in a file, where there is one.
    fn mac(&self, code: &Path) -> Result<Option<Hmac<Sha256>>, CacheError> {
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.cache.0.key.0);
        let mut mac = mac.map_err(|error| CacheError::Host(error.to_string()))?;
        mac.update(self.name.as_bytes());
        let read = fs::File::open(code).and_then(|mut code| io::copy(&mut code, &mut mac));
        Ok(there_is(code, read)?.map(|_| mac))
    }
}

/// An entry that is being made: nobody takes code from it, and it is gone unless it is finished.
#[derive(Debug)]
pub(crate) struct NewEntry {
    entry: Entry,
    dir: TempDir,
}

impl NewEntry {
    /// The file for the code, which is there and empty.
    pub(crate) fn code(&self) -> PathBuf {
        self.dir.path().join(CODE_FILE)
    }

    /// Makes it the entry, and gives the path of its code.
    pub(crate) async fn finish(self) -> Result<PathBuf, CacheError> {
        blocking(move || self.rename()).await
    }

    fn rename(self) -> Result<PathBuf, CacheError> {
        let (code, dir) = (self.code(), self.entry.dir());
        let synced = fs::File::open(&code).and_then(|code| code.sync_all());
        synced.or_else(failed("writing", &code))?;
        let Some(mac) = self.entry.mac(&code)? else {
            return failed("reading", &code)(io::ErrorKind::NotFound.into());
        };
        write_file(
            &self.dir.path().join(MAC_FILE),
            &mac.finalize().into_bytes(),
        )?;
        match fs::rename(self.dir.path(), &dir) {
            Ok(()) => self.entry.cache.prune(&self.entry.name),
            // another process was first: its code is as good, if it is whole
            Err(_) if self.entry.verify()?.is_some() => {}
            Err(error) => return failed("renaming to", &dir)(error),
        }
        Ok(dir.join(CODE_FILE))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    there_is(path, fs::read(path))
}

/// The bytes read, where there is such a file.
fn there_is<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, CacheError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Ok(None),
            _ => failed("reading", path)(error),
        },
    }
}

fn exists(dir: &Path) -> Result<bool, CacheError> {
    dir.try_exists().or_else(failed("reading", dir))
}

/// An entry as [`Cache::prune`] sees it.
struct Kept {
    used: SystemTime,
    bytes: u64,
    dir: PathBuf,
}

impl Cache {
    /// Deletes the entries that were used longest ago, but not `newest`. What can't be deleted now is tried
    /// again with the next new entry; code that is mapped stays usable until it is unmapped.
    fn prune(&self, newest: &str) {
        let mut entries = self.entries(|name| !is_unfinished(name));
        entries.sort_by_key(|entry| entry.used);
        let mut count = entries.len();
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let Most {
            entries: most,
            bytes: most_bytes,
        } = self.0.most;
        for entry in entries {
            if count <= most && bytes <= most_bytes {
                return;
            }
            if entry.dir.ends_with(newest) {
                continue;
            }
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(entry.bytes);
            remove(&entry.dir);
        }
    }

    /// Deletes what a process has left that was killed.
    fn remove_unfinished(&self) {
        let old = SystemTime::now().checked_sub(UNFINISHED_FOR);
        for entry in self.entries(is_unfinished) {
            if old.is_some_and(|old| entry.used < old) {
                remove(&entry.dir);
            }
        }
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> Vec<Kept> {
        let Ok(entries) = fs::read_dir(self.dir()) else {
            return Vec::new();
        };
        let kept = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
            let dir = entry.path();
            let code = fs::metadata(dir.join(CODE_FILE));
            entry
                .file_name()
                .to_str()
                .is_some_and(&wanted)
                .then_some(Kept {
                    used: metadata.modified().ok()?,
                    bytes: code.map_or(0, |code| code.len()),
                    dir,
                })
        };
        entries.flatten().filter_map(kept).collect()
    }
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(entry = %dir.display(), %error, "can't delete old compiled code");
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
