//! One component's compiled code.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::code::cache::Cache;
use crate::code::cache::capacity::{self, CODE_FILE, UNFINISHED};
use crate::code::cache::error::{CacheError, failed};

pub(super) const MAC_FILE: &str = "mac";

/// One component's place in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    cache: Cache,
    name: String,
}

impl Entry {
    /// The place of the compiled code of the component with this SHA-256.
    pub(crate) fn of(cache: &Cache, component: &[u8; 32]) -> Self {
        let mut name = Sha256::new();
        name.update(component);
        name.update(cache.0.compatibility);
        Self {
            cache: cache.clone(),
            name: format!("{:x}", name.finalize()),
        }
    }

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

    pub(super) fn dir(&self) -> PathBuf {
        self.cache.dir().join(&self.name)
    }

    pub(super) fn verify(&self) -> Result<Option<PathBuf>, CacheError> {
        let dir = self.dir();
        // Asked first: another process may put it there at any time, whole.
        if !exists(&dir)? {
            return Ok(None);
        }
        let path = dir.join(CODE_FILE);
        // A file that can't be read now, for want of descriptors or memory, is not damaged: only one that is not there is.
        let (actual, mac) = (self.mac(&path)?, read(&dir.join(MAC_FILE))?);
        let both = actual.zip(mac);
        if both.is_some_and(|(actual, mac)| actual.verify_slice(&mac).is_ok()) {
            // An entry that can't be marked as used is deleted earlier: no reason not to use it.
            let _ = fs::File::open(&dir).and_then(|dir| dir.set_modified(SystemTime::now()));
            return Ok(Some(path));
        }
        tracing::warn!(entry = %dir.display(), "compiled code is damaged: compiling again");
        capacity::delete(&dir).or_else(failed("deleting", &dir))?;
        Ok(None)
    }

    pub(super) fn new_entry(&self) -> Result<NewEntry, CacheError> {
        let dir = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(self.cache.dir());
        let dir = dir.or_else(failed("making a folder in", self.cache.dir()))?;
        let alive = write_file(&dir.path().join(CODE_FILE), b"")?;
        // A file system without locks has none that is swept either.
        let _ = alive.lock();
        Ok(NewEntry {
            entry: self.clone(),
            dir,
            _alive: alive,
        })
    }

    /// The MAC of this entry with the code in a file, where there is one.
    fn mac(&self, code: &Path) -> Result<Option<Hmac<Sha256>>, CacheError> {
        let mut mac = self.cache.0.key.mac(&self.name)?;
        let read = fs::File::open(code).and_then(|mut code| io::copy(&mut code, &mut mac));
        Ok(there_is(code, read)?.map(|_| mac))
    }
}

/// An entry that is being made: nobody takes code from it, and it is gone unless it is finished.
#[derive(Debug)]
pub(crate) struct NewEntry {
    entry: Entry,
    dir: TempDir,
    /// The lock of its code: it is not swept as what a killed process has left, however long it takes.
    _alive: fs::File,
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

    pub(super) fn rename(self) -> Result<PathBuf, CacheError> {
        let (code, dir) = (self.code(), self.entry.dir());
        let synced = fs::File::open(&code).and_then(|code| code.sync_all());
        synced.or_else(failed("writing", &code))?;
        let Some(mac) = self.entry.mac(&code)? else {
            return failed("reading", &code)(io::ErrorKind::NotFound.into());
        };
        let mac = mac.finalize().into_bytes();
        write_file(&self.dir.path().join(MAC_FILE), &mac)?;
        let cache = &self.entry.cache;
        match fs::rename(self.dir.path(), &dir) {
            Ok(()) => capacity::prune(cache.dir(), cache.0.capacity, &self.entry.name),
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

fn write_file(path: &Path, bytes: &[u8]) -> Result<fs::File, CacheError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = file.or_else(failed("making", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .or_else(failed("writing", path))?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CacheError::Host(error.to_string()))?
}
