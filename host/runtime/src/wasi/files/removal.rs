//! Removal of what guests have made, however deep it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// The times that a folder is emptied anew where something is still written to it: a thread that was writing
/// when its run was ended does so once more at most.
const CLEARINGS: usize = 8;

/// Removes a folder that is at `name` in `parent`, with all that is in it.
pub(super) fn remove_at(folder: &File, parent: &File, name: &str) -> io::Result<()> {
    let mut clearings = 0;
    loop {
        clear(folder)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if clearings < CLEARINGS => clearings += 1,
            removed => return Ok(removed?),
        }
    }
}

/// Removes everything in a folder. What is deep in it is lifted up first, folder by folder: a guest's tree may
/// be deeper than there are descriptors to walk it with, or stack.
fn clear(folder: &File) -> io::Result<()> {
    let mut lifted: u64 = 0;
    loop {
        let names = names(folder)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            let inner = open(folder, &name)?;
            for name in self::names(&inner)? {
                lift(&inner, &name, folder, &mut lifted)?;
            }
            rustix::fs::unlinkat(folder, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Moves an entry of `inner` to `folder`, under a name that nothing there has.
fn lift(inner: &OwnedFd, name: &[u8], folder: &File, lifted: &mut u64) -> io::Result<()> {
    loop {
        let new = format!(".lifted-{lifted}");
        *lifted = lifted.saturating_add(1);
        match rustix::fs::renameat(inner, name, folder, new) {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The names in a folder, but `.` and `..`.
pub(super) fn names(folder: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// A folder, and no link to one.
pub(super) fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, folder, Mode::empty())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let root = File::open(base.path()).unwrap();
        rustix::fs::mkdirat(&root, "top", Mode::RWXU).unwrap();
        let mut deepest = open(&root, "top").unwrap();
        for depth in 0..5_000 {
            rustix::fs::mkdirat(&deepest, "down", Mode::RWXU).unwrap();
            if depth % 100 == 0 {
                let file = OFlags::CREATE | OFlags::WRONLY;
                rustix::fs::openat(&deepest, "file", file, Mode::RWXU).unwrap();
            }
            deepest = open(&deepest, "down").unwrap();
        }
        drop(deepest);
        let top = open(&root, "top").unwrap().into();
        remove_at(&top, &root, "top").unwrap();
        assert!(names(&root).unwrap().is_empty());
    }
}
