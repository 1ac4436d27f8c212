//! Opening of files and folders, which waits for nobody.

use std::fs;
use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor as _, OpenFlags, PathFlags,
};
use wasmtime_wasi::runtime::spawn_blocking;

use crate::wasi::files::view::{FilesView, same};

/// The times that a file is opened anew where the kernel could not tell whether its path stays in the folder, because
/// something on the machine was renamed meanwhile.
const OPENINGS: usize = 32;
/// The mode that files are made with, less the process's umask.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

impl FilesView<'_> {
    /// True if opening a path would make a file. What is neither file nor folder is not opened: devices do what
    /// they do.
    pub(super) async fn would_make(
        &mut self,
        folder: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
        open: OpenFlags,
    ) -> FsResult<bool> {
        let found = self.wasi.stat_at(same(folder), flags, path.to_owned());
        match found.await {
            Ok(stat) => match stat.type_ {
                DescriptorType::RegularFile
                | DescriptorType::Directory
                | DescriptorType::SymbolicLink => Ok(false),
                DescriptorType::Unknown
                | DescriptorType::BlockDevice
                | DescriptorType::CharacterDevice
                | DescriptorType::Fifo
                | DescriptorType::Socket => Err(ErrorCode::NotPermitted.into()),
            },
            Err(error) => match error.downcast_ref() {
                Some(ErrorCode::NoEntry) => Ok(open.contains(OpenFlags::CREATE)),
                // opening it runs into the same
                Some(_) => Ok(false),
                None => Err(error),
            },
        }
    }

    /// Opens as `wasmtime_wasi` does, which waits for the other end where it finds a FIFO, and so for ever: whoever
    /// else uses the folder may have put one there since [`Self::would_make`] looked.
    pub(super) async fn open_at_once(
        &mut self,
        folder: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let Descriptor::Dir(dir) = self.wasi.table.get(folder)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let (parent, perms) = (Arc::clone(&dir.dir), dir.perms);
        let mode = open_mode(open, flags)?;
        if perms.write_not_permitted() && mode.contains(OpenMode::WRITE) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let how = how(path_flags, open, mode);
        let beneath = path.to_owned();
        let opened = spawn_blocking(move || open_beneath(&parent, &beneath, how)).await;
        let descriptor = match opened {
            Ok((dir, FileType::Directory)) => Descriptor::Dir(Dir::new(dir, perms, mode, false)),
            Ok((_, FileType::RegularFile)) if open.contains(OpenFlags::DIRECTORY) => {
                return Err(ErrorCode::NotDirectory.into());
            }
            Ok((file, FileType::RegularFile)) => {
                Descriptor::File(File::new(file, perms, mode, false))
            }
            Ok(_) => return Err(ErrorCode::NotPermitted.into()),
            // there is no `openat2`, or a filter of calls does not let it pass
            Err(Errno::NOSYS | Errno::PERM) => {
                let path = path.to_owned();
                let opened = self
                    .wasi
                    .open_at(same(folder), path_flags, path, open, flags);
                return opened.await;
            }
            // it leads out
            Err(Errno::XDEV) => return Err(ErrorCode::NotPermitted.into()),
            Err(Errno::AGAIN) => return Err(ErrorCode::Busy.into()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        Ok(self.wasi.table.push(descriptor)?)
    }

    /// Opens what is there, as far as it may be opened.
    pub(super) async fn open_to_touch(
        &mut self,
        folder: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
    ) -> FsResult<Resource<Descriptor>> {
        let there = OpenFlags::empty();
        self.would_make(folder, flags, path, there).await?;
        let written = self.open_at_once(folder, flags, path, there, DescriptorFlags::WRITE);
        match written.await {
            Err(error)
                if matches!(
                    error.downcast_ref(),
                    Some(ErrorCode::Access | ErrorCode::IsDirectory)
                ) =>
            {
                let read = DescriptorFlags::READ;
                self.open_at_once(folder, flags, path, there, read).await
            }
            opened => opened,
        }
    }
}

/// The mode that `wasmtime_wasi` makes of the flags: what is not opened to be written is opened to be read.
fn open_mode(open: OpenFlags, flags: DescriptorFlags) -> FsResult<OpenMode> {
    let synced = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags.intersects(synced) {
        return Err(ErrorCode::Unsupported.into());
    }
    let for_files = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
    if open.contains(OpenFlags::DIRECTORY) && open.intersects(for_files) {
        return Err(ErrorCode::Invalid.into());
    }
    let write = flags.contains(DescriptorFlags::WRITE);
    let mut mode = OpenMode::empty();
    mode.set(
        OpenMode::READ,
        !write || flags.contains(DescriptorFlags::READ),
    );
    mode.set(
        OpenMode::WRITE,
        write || open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE),
    );
    Ok(mode)
}

fn how(path_flags: PathFlags, open: OpenFlags, mode: OpenMode) -> OFlags {
    let mut how = match (
        mode.contains(OpenMode::READ),
        mode.contains(OpenMode::WRITE),
    ) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    how |= OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    how.set(
        OFlags::NOFOLLOW,
        !path_flags.contains(PathFlags::SYMLINK_FOLLOW),
    );
    how.set(OFlags::CREATE, open.contains(OpenFlags::CREATE));
    let new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    how.set(OFlags::EXCL, open.contains(new));
    how.set(OFlags::TRUNC, open.contains(OpenFlags::TRUNCATE));
    how
}

/// The kernel sees to it that neither `path` nor a link in it leads out of `parent`.
fn open_beneath(
    parent: &fs::File,
    path: &str,
    how: OFlags,
) -> rustix::io::Result<(fs::File, FileType)> {
    let mode = match how.contains(OFlags::CREATE) {
        true => NEW_FILE,
        false => Mode::empty(),
    };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut openings = 1;
    let opened = loop {
        match openat2(parent, path, how, mode, beneath) {
            Err(Errno::AGAIN) if openings < OPENINGS => openings += 1,
            opened => break opened?,
        }
    };
    let kind = FileType::from_raw_mode(fstat(&opened)?.st_mode);
    // to be read and written as any other
    fcntl_setfl(&opened, OFlags::empty())?;
    Ok((opened.into(), kind))
}
