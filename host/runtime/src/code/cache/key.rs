//! The key of a cache: whoever has it has written the code.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::code::cache::error::{CacheError, failed};

const KEY_FILE: &str = "key";
/// In bytes.
const KEY_LEN: usize = 32;

pub(super) struct Key([u8; KEY_LEN]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Of the cache in that folder.
    pub(super) fn read_or_make(dir: &Path) -> Result<Self, CacheError> {
        read_or_make_key(dir).map(Self)
    }

    /// Of an entry's name, which its code follows.
    pub(super) fn mac(&self, name: &str) -> Result<Hmac<Sha256>, CacheError> {
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0);
        let mut mac = mac.map_err(|error| CacheError::Host(error.to_string()))?;
        mac.update(name.as_bytes());
        Ok(mac)
    }
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
