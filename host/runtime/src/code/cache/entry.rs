//! One component's compiled code.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::Mac;
use sha2::{Digest, Sha256};

use crate::code::cache::Cache;
use crate::code::cache::capacity::{self, CODE_FILE};
use crate::code::cache::error::{CacheError, failed};

pub(super) const MAC_FILE: &str = "mac";

/// One component's place in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    cache: Cache,
    name: String,
}

impl Entry {
    /// The place of this component's compiled code.
    pub(crate) fn of(cache: &Cache, wasm: &[u8]) -> Self {
        let mut name = Sha256::new();
        name.update(Sha256::digest(wasm));
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

    /// Makes the entry, and gives the path of its code.
    pub(crate) async fn store(&self, code: Vec<u8>) -> Result<PathBuf, CacheError> {
        let entry = self.clone();
        blocking(move || entry.write(&code)).await
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.cache.dir().join(&self.name)
    }

    pub(super) fn verify(&self) -> Result<Option<PathBuf>, CacheError> {
        let dir = self.dir();
        let path = dir.join(CODE_FILE);
        // What can't be read now, for want of descriptors or memory, is not damaged: only what is not there is.
        let (code, mac) = (read(&path)?, read(&dir.join(MAC_FILE))?);
        if code.is_none() && mac.is_none() && !exists(&dir)? {
            return Ok(None);
        }
        let (code, mac) = (code.unwrap_or_default(), mac.unwrap_or_default());
        if self
            .cache
            .0
            .key
            .mac(&self.name, &code)?
            .verify_slice(&mac)
            .is_ok()
        {
            // What can't be marked as used is deleted earlier: no reason not to use it.
            let _ = fs::File::open(&dir).and_then(|dir| dir.set_modified(SystemTime::now()));
            return Ok(Some(path));
        }
        tracing::warn!(entry = %dir.display(), "compiled code is damaged: compiling again");
        fs::remove_dir_all(&dir).or_else(failed("deleting", &dir))?;
        Ok(None)
    }

    pub(super) fn write(&self, code: &[u8]) -> Result<PathBuf, CacheError> {
        let dir = self.dir();
        let new = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(self.cache.dir());
        let new = new.or_else(failed("making a folder in", self.cache.dir()))?;
        let mac = self
            .cache
            .0
            .key
            .mac(&self.name, code)?
            .finalize()
            .into_bytes();
        write_file(&new.path().join(CODE_FILE), code)?;
        write_file(&new.path().join(MAC_FILE), &mac)?;
        match fs::rename(new.path(), &dir) {
            Ok(()) => capacity::prune(self.cache.dir(), self.cache.0.capacity, &self.name),
            // another process was first: its code is as good, if it is whole
            Err(_) if self.verify()?.is_some() => {}
            Err(error) => return failed("renaming to", &dir)(error),
        }
        Ok(dir.join(CODE_FILE))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CacheError::Host(error.to_string()))?
}
