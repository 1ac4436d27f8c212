//! A folder as the guest finds it.

use std::fs::File;
use std::io;
use std::path::Path;

use petiole_permits::Access;
use rustix::fs::{Mode, OFlags};
use wasmtime_wasi::filesystem::{Dir, FsPerms, OpenMode};

use crate::granted::Folder;
use crate::wasi::files::quota::Quota;

pub(super) struct Root {
    /// From the guest's root folder on.
    pub(super) name: String,
    pub(super) dir: Dir,
    pub(super) quota: Quota,
    /// It goes with the run, so that nobody else will ever follow a link in it.
    pub(super) temporary: bool,
}

impl Root {
    /// One of the operator's folders.
    pub(super) fn open(folder: &Folder, quota: &Quota) -> io::Result<Self> {
        let path = &folder.host;
        let dir = directory(path).map_err(|error| {
            io::Error::new(error.kind(), format!("folder {}: {error}", path.display()))
        })?;
        Ok(Self::new(&folder.guest, dir, folder.access, quota, false))
    }

    /// The run's own folder.
    pub(super) fn temporary(dir: File, quota: &Quota) -> Self {
        Self::new("tmp", dir, Access::ReadWrite, quota, true)
    }

    fn new(name: &str, dir: File, access: Access, quota: &Quota, temporary: bool) -> Self {
        let (perms, mode) = match access {
            Access::ReadOnly => (FsPerms::ReadOnly, OpenMode::READ),
            Access::ReadWrite => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
        };
        Self {
            name: format!("/{name}"),
            dir: Dir::new(dir, perms, mode, false),
            quota: quota.clone(),
            temporary,
        }
    }
}

fn directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
