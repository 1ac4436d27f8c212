//! The states of the workers that share a store: a small file for each, written anew while it lives.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::store::{io_error, remove_file};
use crate::{ModuleName, Store, StoreError, VersionNumber};

/// Time after which a worker says again that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// Time without a word after which it does not count as alive any more.
const ALIVE_FOR: Duration = Duration::from_secs(15);
/// Age of the files that the next worker removes when it comes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Workers that are read, and bytes of what each says: whoever can write to the store may put anything there.
const MAX_WORKERS: usize = 10_000;
const MAX_SIZE: u64 = 1 << 20;

/// The state of a worker, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerState {
    /// Its node name.
    pub worker: String,
    /// The active modules as it has them.
    pub modules: BTreeMap<ModuleName, ModuleState>,
}

/// An active module, as a worker has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleState {
    /// The version that answers there; none where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNumber>,
    /// The reason why it does not have the active version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It never will, as it is configured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// A worker's file. It goes with this value; that of a worker that was killed counts for some seconds more.
#[derive(Debug)]
pub struct Announcement {
    store: Store,
    path: PathBuf,
}

impl Store {
    /// Begins to tell others of a worker.
    ///
    /// # Errors
    /// When the store can't be written to.
    pub fn announce(&self) -> Result<Announcement, StoreError> {
        let folder = self.workers_folder();
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        for (path, age) in self.announcements()? {
            if age > FORGOTTEN_AFTER {
                remove_file(&path)?;
            }
        }
        // Names that no other worker has, on any machine.
        let file = tempfile::Builder::new()
            .suffix(".json")
            .tempfile_in(&folder);
        let file = file.and_then(|file| file.keep().map_err(|error| error.error));
        let (_, path) = file.map_err(io_error("create a file in", &folder))?;
        Ok(Announcement {
            store: self.clone(),
            path,
        })
    }

    /// The workers that live, as they say, in the order of their names. A file that can't be read is passed over.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn workers(&self) -> Result<Vec<WorkerState>, StoreError> {
        let mut workers = Vec::new();
        for (path, age) in self.announcements()? {
            if age > ALIVE_FOR || workers.len() == MAX_WORKERS {
                continue;
            }
            let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_SIZE);
            let text = fs::read(&path).ok().filter(|_| is_small);
            workers.extend(text.and_then(|text| serde_json::from_slice(&text).ok()));
        }
        workers.sort_by(|one: &WorkerState, other| one.worker.cmp(&other.worker));
        Ok(workers)
    }

    /// The workers' files, with the time since they were last written. None where no worker was ever announced.
    fn announcements(&self) -> Result<Vec<(PathBuf, Duration)>, StoreError> {
        let folder = self.workers_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &folder)(error)),
        };
        let now = SystemTime::now();
        let file = |entry: fs::DirEntry| {
            let path = entry.path();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let modified = entry.metadata().and_then(|file| file.modified()).ok()?;
            // One of the future, by another machine's clock, is fresh.
            let age = now.duration_since(modified).unwrap_or_default();
            is_json.then_some((path, age))
        };
        Ok(entries.flatten().filter_map(file).collect())
    }
}

impl Announcement {
    /// Writes the worker's state.
    ///
    /// # Errors
    /// When the store can't be written to.
    pub fn say(&self, state: &WorkerState) -> Result<(), StoreError> {
        let text = serde_json::to_vec(state).unwrap_or_default();
        self.store.write_unsynced(&self.path, &text)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // A file that stays counts as alive for some seconds, and is removed later.
        let _ = remove_file(&self.path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn age(path: &std::path::Path, by: Duration) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn workers_are_known_while_they_live() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", dir.path().display()).into()).unwrap();
        assert_eq!(store.workers().unwrap(), []);
        let state = |worker: &str, version| WorkerState {
            worker: worker.to_owned(),
            modules: [(
                "my_app.tasks".parse().unwrap(),
                ModuleState {
                    version,
                    ..ModuleState::default()
                },
            )]
            .into(),
        };
        let (one, two) = (store.announce().unwrap(), store.announce().unwrap());
        two.say(&state("b@host", None)).unwrap();
        one.say(&state("a@host", Some(1))).unwrap();
        one.say(&state("a@host", Some(2))).unwrap();
        let both = [state("a@host", Some(2)), state("b@host", None)];
        assert_eq!(store.workers().unwrap(), both);
        fs::write(store.workers_folder().join("junk.json"), "{").unwrap();
        fs::write(store.workers_folder().join("note.txt"), "{}").unwrap();
        assert_eq!(store.workers().unwrap(), both);
        age(&two.path, ALIVE_FOR + HEARTBEAT);
        assert_eq!(store.workers().unwrap().len(), 1);
        two.say(&state("b@host", None)).unwrap();
        assert_eq!(store.workers().unwrap(), both);
        drop(one);
        assert_eq!(store.workers().unwrap().len(), 1);
        age(&two.path, FORGOTTEN_AFTER + HEARTBEAT);
        drop(store.announce().unwrap());
        assert!(!two.path.exists());
    }
}
