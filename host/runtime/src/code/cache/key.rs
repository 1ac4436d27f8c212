use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::code::cache::error::{CacheError, failed};

const KEY_FILE: &str = "key";
const KEY_LEN: usize = 32;

/// A cache's own key, which its MACs are made with.
pub(super) struct Key(pub(super) [u8; KEY_LEN]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key appears whole, by linking: whoever comes second reads the first one's.
    pub(super) fn read_or_make(dir: &Path) -> Result<Self, CacheError> {
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
        let key = key.try_into();
        key.map(Self).map_err(|_| CacheError::Key { path })
    }
}
