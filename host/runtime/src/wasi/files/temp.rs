//! Temporary folders: one for each run that is granted it, gone when the run is over.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{CWD, Mode};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::wasi::files::removal::{names, open, remove_at};

/// The names of the folders of all processes, before their random part.
const PREFIX: &str = "petiole-temp-";

/// Only the worker's user may look into them.
const PRIVATE: Mode = Mode::RWXU;

/// The times that a process makes its folder anew where others that sweep have it first.
const MAKINGS: usize = 8;

/// The temporary folders of a process: in a folder of its own, made when the first run needs one.
#[derive(Debug)]
pub(crate) struct TempRoot {
    base: PathBuf,
    own: Mutex<Option<Arc<ProcessFolder>>>,
    made: AtomicU64,
}

/// The process's folder, locked for as long as the process lives, whatever ends it.
#[derive(Debug)]
struct ProcessFolder {
    path: PathBuf,
    folder: File,
}

/// A run's folder. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct TempFolder {
    /// None once it is removed.
    folder: Option<File>,
    name: String,
    own: Arc<ProcessFolder>,
}

impl TempRoot {
    /// In `base`; begins to remove there what processes that are gone have left.
    pub(crate) fn new(base: PathBuf) -> Self {
        let swept = base.clone();
        let sweeping = std::thread::Builder::new()
            .name("petiole-sweep".to_owned())
            .spawn(move || {
                sweep(&swept, remove_at).unwrap_or_else(|error| unswept(&swept, &error));
            });
        if let Err(error) = sweeping {
            unswept(&base, &error);
        }
        Self::at(base)
    }

    fn at(base: PathBuf) -> Self {
        Self {
            base,
            own: Mutex::new(None),
            made: AtomicU64::new(0),
        }
    }

    /// A new and empty one.
    pub(crate) async fn folder(&self) -> io::Result<TempFolder> {
        let name = self.made.fetch_add(1, Relaxed).to_string();
        let mut own = self.own.lock().await;
        let base = self.base.clone();
        let found = own.clone();
        let folder = blocking(move || {
            let own = match found.filter(|own| is_at(&own.folder, &own.path)) {
                Some(own) => own,
                // the first one, or somebody has tidied up
                None => Arc::new(ProcessFolder::make(&base, File::try_lock)?),
            };
            rustix::fs::mkdirat(&own.folder, &name, PRIVATE)?;
            let folder = open(&own.folder, &name)?;
            Ok(TempFolder {
                folder: Some(folder.into()),
                name,
                own,
            })
        })
        .await?;
        *own = Some(Arc::clone(&folder.own));
        Ok(folder)
    }
}

fn unswept(folder: &Path, error: &io::Error) {
    tracing::warn!(folder = %folder.display(), %error, "what processes that are gone have left can't be removed");
}

/// Off the threads that run tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

impl ProcessFolder {
    /// `lock`: takes the folder's lock, if nobody has it.
    fn make(base: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Self> {
        let private = std::fs::Permissions::from_mode(PRIVATE.as_raw_mode());
        for _ in 0..MAKINGS {
            let made = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(private.clone())
                .tempdir_in(base)?;
            let folder = File::open(made.path())?;
            match lock(&folder) {
                Ok(()) if is_at(&folder, made.path()) => {
                    let path = made.keep();
                    return Ok(Self { path, folder });
                }
                // whoever sweeps has come between making and locking
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    let text = format!("{} can't be locked: {error}", made.path().display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        let text = format!(
            "of {MAKINGS} folders made in {} none was left alone",
            base.display()
        );
        Err(io::Error::other(text))
    }
}

impl Drop for ProcessFolder {
    /// Leaves it to the next sweep where it is not empty.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// True if it is still the one at that path.
fn is_at(folder: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(found)) = (folder.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (found.dev(), found.ino())
}

impl TempFolder {
    /// The folder itself, once more.
    pub(crate) fn folder(&self) -> io::Result<File> {
        let folder = self.folder.as_ref();
        folder.ok_or(io::ErrorKind::NotFound)?.try_clone()
    }

    /// Removes it, and waits so long for that. What can't be removed is left to the next sweep.
    pub(crate) async fn remove(mut self, patience: Duration) {
        if let Some(folder) = self.folder.take() {
            let (name, own) = (self.name.clone(), Arc::clone(&self.own));
            // the thread goes on where nobody waits any more
            let removing = tokio::task::spawn_blocking(move || remove(&folder, &name, &own));
            if timeout(patience, removing).await.is_err() {
                let folder = self.own.path.join(&self.name);
                tracing::warn!(folder = %folder.display(), "a temporary folder takes long to be removed");
            }
        }
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else {
            return;
        };
        let (name, own) = (std::mem::take(&mut self.name), Arc::clone(&self.own));
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn_blocking(move || remove(&folder, &name, &own));
            }
            Err(_) => remove(&folder, &name, &own),
        }
    }
}

fn remove(folder: &File, name: &str, own: &ProcessFolder) {
    if let Err(error) = remove_at(folder, &own.folder, name) {
        tracing::warn!(folder = %own.path.join(name).display(), %error, "a temporary folder can't be removed");
    }
}

/// Removes what processes that are gone have left in `base`, all but what can't be removed.
fn sweep(base: &Path, remove: impl Fn(&File, &File, &str) -> io::Result<()>) -> io::Result<()> {
    let opened = File::from(open(CWD, base)?);
    for name in names(&opened)? {
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        if name.starts_with(PREFIX) {
            sweep_one(&opened, &name, &remove)
                .unwrap_or_else(|error| unswept(&base.join(&name), &error));
        }
    }
    Ok(())
}

/// Removes a folder of this user that nobody has locked.
fn sweep_one(
    base: &File,
    name: &str,
    remove: impl Fn(&File, &File, &str) -> io::Result<()>,
) -> io::Result<()> {
    // anything that is no folder, or somebody else's, is none of ours
    let Ok(folder) = open(base, name).map(File::from) else {
        return Ok(());
    };
    if folder.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    match folder.try_lock() {
        Ok(()) => match remove(&folder, base, name) {
            // another process sweeps as well
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn a_folder_is_private_and_goes_with_all_that_is_in_it() {
        let base = tempfile::tempdir().unwrap();
        let root = TempRoot::new(base.path().to_owned());
        assert!(entries(base.path()).is_empty(), "made before it is needed");
        let (one, two) = (root.folder().await.unwrap(), root.folder().await.unwrap());
        let own = entries(base.path()).remove(0);
        for path in [own.clone(), own.join("0"), own.join("1")] {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{path:?}");
        }
        std::fs::create_dir_all(own.join("0/a/b/c")).unwrap();
        std::fs::write(own.join("0/a/b/file"), "x").unwrap();
        std::fs::write(own.join("0/.lifted-0"), "in the way").unwrap();
        std::fs::create_dir_all(own.join("0/.lifted-1/full")).unwrap();
        let outside = base.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, own.join("0/a/link")).unwrap();
        std::fs::hard_link(outside.join("kept"), own.join("0/hard")).unwrap();
        one.remove(PATIENCE).await;
        assert_eq!(entries(&own), [own.join("1")]);
        drop(two);
        drop(root);
        // by a thread that was told to
        let deadline = Instant::now() + PATIENCE;
        while entries(base.path()) != [outside.clone()] {
            assert!(Instant::now() < deadline, "{:?}", entries(base.path()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(std::fs::read(outside.join("kept")).unwrap(), b"x");
    }

    #[tokio::test]
    async fn a_process_whose_folder_was_tidied_up_makes_another_one() {
        let base = tempfile::tempdir().unwrap();
        let root = TempRoot::new(base.path().to_owned());
        root.folder().await.unwrap().remove(PATIENCE).await;
        std::fs::remove_dir_all(entries(base.path()).remove(0)).unwrap();
        let folder = root.folder().await.unwrap();
        assert!(entries(base.path()).remove(0).join("1").exists());
        drop(folder);
    }

    #[tokio::test]
    async fn what_a_process_that_is_gone_has_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let living = TempRoot::at(base.path().to_owned());
        let folder = living.folder().await.unwrap();
        let own = entries(base.path()).remove(0);
        std::fs::create_dir_all(base.path().join("petiole-temp-dead/0/a")).unwrap();
        std::fs::write(base.path().join("petiole-temp-dead/0/a/file"), "x").unwrap();
        std::fs::write(base.path().join("petiole-temp-file"), "no folder").unwrap();
        std::fs::create_dir_all(base.path().join("somebody-elses/0")).unwrap();
        let target = base.path().join("somebody-elses");
        std::os::unix::fs::symlink(&target, base.path().join("petiole-temp-link")).unwrap();
        sweep(base.path(), remove_at).unwrap();
        let mut left = entries(base.path());
        left.sort();
        let mut expected = [
            own.clone(),
            base.path().join("petiole-temp-file"),
            base.path().join("petiole-temp-link"),
            target.clone(),
        ];
        expected.sort();
        assert_eq!(left, expected);
        assert!(own.join("0").exists() && target.join("0").exists());
        drop(folder);
    }

    #[test]
    fn what_cant_be_swept_keeps_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        for name in ["petiole-temp-one", "petiole-temp-two"] {
            std::fs::create_dir_all(base.path().join(name).join("0")).unwrap();
        }
        let failed = Cell::new(false);
        sweep(base.path(), |folder, parent, name| {
            if !failed.replace(true) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            remove_at(folder, parent, name)
        })
        .unwrap();
        assert_eq!(entries(base.path()).len(), 1);
    }

    #[test]
    fn a_folder_that_cant_be_locked_is_an_error_and_none_is_left() {
        let base = tempfile::tempdir().unwrap();
        let unlockable = |_: &File| Err(TryLockError::Error(rustix::io::Errno::NOLCK.into()));
        let error = ProcessFolder::make(base.path(), unlockable)
            .unwrap_err()
            .to_string();
        assert!(error.contains("can't be locked: No locks"), "{error}");
        assert!(entries(base.path()).is_empty());

        let contested = |_: &File| Err(TryLockError::WouldBlock);
        let error = ProcessFolder::make(base.path(), contested)
            .unwrap_err()
            .to_string();
        assert!(error.contains("of 8 folders made in"), "{error}");
        assert!(entries(base.path()).is_empty());
    }

    #[test]
    fn a_removal_is_waited_for_so_long_and_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let base = tempfile::tempdir().unwrap();
        let root = TempRoot::new(base.path().to_owned());
        let folder = runtime.block_on(root.folder()).unwrap();
        let own = entries(base.path()).remove(0);
        let (let_go, held) = mpsc::channel::<()>();
        // the only thread that could remove it
        runtime.spawn_blocking(move || held.recv());
        runtime.block_on(folder.remove(Duration::from_millis(10)));
        assert_eq!(entries(&own), [own.join("0")]);
        drop(let_go);
        let deadline = Instant::now() + PATIENCE;
        while !entries(&own).is_empty() {
            assert!(Instant::now() < deadline, "it was not removed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
