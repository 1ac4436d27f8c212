use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use petiole_permits::ServiceUrl;

use crate::{Component, Digest, StoreError};

/// Time for which a component that no version names is kept: between its upload and the version that
/// names it, at most this may pass.
const UNREFERENCED_FOR: Duration = Duration::from_secs(60 * 60);
/// Time for which another process may hold the store's lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The largest schema that is kept, in bytes. Its documentation has 1 MiB at most.
const MAX_SCHEMA: usize = 4 << 20;

/// A folder of components, each under its digest.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Held while a store is written to; an exclusive one keeps everybody else from writing.
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// Opens the store of a URL. The folder is created where it is missing.
    ///
    /// # Errors
    /// When the URL is not `file://`, or the folder can't be created.
    pub fn open(url: &ServiceUrl) -> Result<Self, StoreError> {
        let store = Self::of_url(url)?;
        store.create()?;
        Ok(store)
    }

    /// The store of a URL, `file://DIR`: what follows the `//` is the path as it stands, absolute or relative. It need
    /// not be there.
    ///
    /// # Errors
    /// When the URL is not `file://`.
    pub fn of_url(url: &ServiceUrl) -> Result<Self, StoreError> {
        let root = match url.expose().split_once("://") {
            Some(("file", dir)) if !dir.is_empty() => PathBuf::from(dir),
            Some((scheme, _)) if scheme != "file" => {
                return Err(StoreError::UnsupportedScheme {
                    scheme: scheme.to_owned(),
                });
            }
            _ => {
                return Err(StoreError::Url {
                    url: url.to_string(),
                });
            }
        };
        Ok(Self { root })
    }

    /// Creates the store's folders where they are missing.
    ///
    /// # Errors
    /// When they can't be created.
    pub fn create(&self) -> Result<(), StoreError> {
        for folder in [self.components(), self.catalog_folder(), self.temporary()] {
            fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        }
        Ok(())
    }

    /// Stores a component, and the schema of its tasks for those who don't compile it; one that is too large is not
    /// kept. Both are on the disk, whole, when this returns; putting them again does no harm.
    ///
    /// # Errors
    /// When they can't be written, or the store stays locked.
    pub fn put(&self, component: &Component, schema: &[u8]) -> Result<(), StoreError> {
        let _lock = self.lock_shared()?;
        if schema.len() <= MAX_SCHEMA {
            self.write(&self.schema_path(&component.digest()), schema)?;
        }
        // Also where the component is there already: that repairs a corrupt one, and makes it new
        // to `collect`.
        self.write(&self.path(&component.digest()), component.bytes())
    }

    /// A stored component.
    ///
    /// # Errors
    /// When it isn't there, can't be read, or is not what was put.
    pub fn get(&self, digest: &Digest) -> Result<Component, StoreError> {
        let path = self.path(digest);
        let component = match fs::read(&path) {
            Ok(bytes) => Component::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: *digest });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        match component.digest() {
            found if found == *digest => Ok(component),
            found => Err(StoreError::Corrupt {
                digest: *digest,
                found,
                path,
            }),
        }
    }

    /// The schema that was put with a component.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn schema(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.schema_path(digest);
        let limit = u64::try_from(MAX_SCHEMA).unwrap_or(u64::MAX);
        let mut schema = Vec::new();
        match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut schema)) {
            Ok(_) => Ok(schema),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NoSchema { digest: *digest })
            }
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn schema_path(&self, digest: &Digest) -> PathBuf {
        self.components().join(format!("{digest}.json"))
    }

    /// The path that a component has, or would have.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.components().join(format!("{digest}.wasm"))
    }

    pub(crate) fn catalog_folder(&self) -> PathBuf {
        self.root.join("catalog")
    }

    fn components(&self) -> PathBuf {
        self.root.join("components")
    }

    pub(crate) fn workers_folder(&self) -> PathBuf {
        self.root.join("workers")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("temporary")
    }

    /// Writes a file so that readers see all of it or none, also after a power cut.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            let mut file = new_file(&self.temporary())?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            path.parent()
                .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(io_error("write", path))
    }

    /// The same, for what need not survive a power cut.
    pub(crate) fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            let mut file = new_file(&self.temporary())?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|error| error.error)
        };
        write().map(drop).map_err(io_error("write", path))
    }

    /// Deletes components that no version names, and what crashes left behind, unless they are
    /// fresh. The caller holds the exclusive lock.
    pub(crate) fn collect(
        &self,
        named: &BTreeSet<Digest>,
        now: Timestamp,
        _lock: &Lock,
    ) -> Result<(), StoreError> {
        let too_old = SystemTime::from(now)
            .checked_sub(UNREFERENCED_FOR)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        remove_old(&self.temporary(), too_old, |_| true)?;
        remove_old(&self.components(), too_old, |path| {
            let digest = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse::<Digest>().ok());
            digest.is_some_and(|digest| !named.contains(&digest))
        })
    }

    pub(crate) fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        self.lock(File::try_lock)
    }

    fn lock_shared(&self) -> Result<Lock, StoreError> {
        self.lock(File::try_lock_shared)
    }

    fn lock(
        &self,
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Lock, StoreError> {
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match try_lock(&file) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(StoreError::Locked {
                        path,
                        seconds: LOCK_WAIT.as_secs(),
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
    }
}

/// A new file that other users may read, as far as the umask lets them.
fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    builder.tempfile_in(folder)
}

/// Another process may be removing the same files.
fn remove_old(
    folder: &Path,
    too_old: SystemTime,
    unwanted: impl Fn(&Path) -> bool,
) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        let modified = match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(modified) => modified,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        if modified < too_old && unwanted(&path) {
            remove_file(&path)?;
        }
    }
    Ok(())
}

pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
