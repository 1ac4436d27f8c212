//! Why the cache can't be used.

use std::io;
use std::path::{Path, PathBuf};

/// The cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refuses.
    #[error("compiled code cache: {action} {}: {source}", path.display())]
    Io {
        /// The attempt.
        action: &'static str,
        /// Its file or folder.
        path: PathBuf,
        /// The cause.
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
    /// The folder is another user's, who could put code there.
    #[error("compiled code cache: {} belongs to user {owner}, not to {user}, who runs this worker: name another folder", dir.display())]
    NotOwned {
        /// The folder.
        dir: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// This process' user's id.
        user: u32,
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

pub(super) fn failed<T>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> Result<T, CacheError> {
    let path = path.to_owned();
    move |source| {
        Err(CacheError::Io {
            action,
            path,
            source,
        })
    }
}
