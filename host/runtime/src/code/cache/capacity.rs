//! The room that a cache takes: past it go the entries that were used longest ago.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Entries, and their bytes in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

pub(super) const CAPACITY: Capacity = Capacity {
    entries: 256,
    bytes: 8 << 30,
};

/// An entry's code, in its folder.
pub(super) const CODE_FILE: &str = "code";

/// An entry that is being made has a name that begins so, and its code is locked; an old one that is not, a process that
/// was killed has left.
pub(super) const UNFINISHED: &str = "new-";
const UNFINISHED_FOR: Duration = Duration::from_secs(60 * 60);

/// A folder in the cache.
struct Stored {
    used: SystemTime,
    bytes: u64,
    dir: PathBuf,
}

/// Deletes the entries that were used longest ago, but not `newest`. What can't be deleted now is tried
/// again with the next new entry; code that is mapped stays usable until it is unmapped.
pub(super) fn prune(dir: &Path, capacity: Capacity, newest: &str) {
    let mut entries = entries(dir, |name| !is_unfinished(name));
    entries.sort_by_key(|entry| entry.used);
    let mut count = entries.len();
    let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    for entry in entries {
        if count <= capacity.entries && bytes <= capacity.bytes {
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
pub(super) fn sweep(dir: &Path) {
    let old = SystemTime::now().checked_sub(UNFINISHED_FOR);
    for entry in entries(dir, is_unfinished) {
        if old.is_some_and(|old| entry.used < old) && !is_locked(&entry.dir.join(CODE_FILE)) {
            remove(&entry.dir);
        }
    }
}

fn entries(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Stored> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let stored = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
        let dir = entry.path();
        let code = fs::metadata(dir.join(CODE_FILE));
        entry
            .file_name()
            .to_str()
            .is_some_and(&wanted)
            .then_some(Stored {
                used: metadata.modified().ok()?,
                bytes: code.map_or(0, |code| code.len()),
                dir,
            })
    };
    entries.flatten().filter_map(stored).collect()
}

/// True of a file that a process holds, or may hold.
fn is_locked(code: &Path) -> bool {
    // NFS locks what may be written only.
    match fs::File::options().write(true).open(code) {
        Ok(code) => code.try_lock().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

fn remove(dir: &Path) {
    if let Err(error) = delete(dir) {
        tracing::warn!(entry = %dir.display(), %error, "can't delete old compiled code");
    }
}

/// Another process may have been first.
pub(super) fn delete(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}
