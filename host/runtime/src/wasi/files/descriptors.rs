//! `wasi:filesystem/types`: `wasmtime_wasi`'s, with what [`FilesView`] sees to around it.

use std::fs;
use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::runtime::spawn_blocking;

use crate::limits::wide;
use crate::wasi::files::{FilesView, fits};

/// How often a file is opened anew where the kernel could not tell whether its path stays in the folder, because
/// something on the machine was renamed meanwhile.
const OPENINGS: usize = 32;
/// What files are made with, less the process's umask.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

/// The same once more: the functions of `wasmtime_wasi` take theirs.
fn same(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}

/// What writes, makes or opens.
impl FilesView<'_> {
    /// Whether opening a path would make a file. What is neither file nor folder is not opened: devices do what
    /// they do.
    async fn would_make(
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
    async fn open_at_once(
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
        let own = path.to_owned();
        let opened = spawn_blocking(move || open_beneath(&parent, &own, how)).await;
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
    async fn open_to_touch(
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

/// What `wasmtime_wasi` makes of the flags: what is not opened to be written is opened to be read.
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

impl HostDescriptor for FilesView<'_> {
    async fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        fits(&path)?;
        let root = self.root_number(&folder)?;
        let open = self.one_more_open()?;
        let makes = self
            .would_make(&folder, path_flags, &path, open_flags)
            .await?;
        let entry = match makes {
            true => Some(self.may_make(&folder, 0)?),
            false => None,
        };
        let opened = self
            .open_at_once(&folder, path_flags, &path, open_flags, flags)
            .await?;
        if let Some(entry) = entry {
            self.made(&entry)?;
        }
        self.opened(&opened, root, open);
        Ok(opened)
    }

    async fn create_directory_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        fits(&path)?;
        let entry = self.may_make(&folder, 0)?;
        self.wasi.create_directory_at(folder, path).await?;
        self.made(&entry)
    }

    async fn link_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_folder: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        fits(&path)?;
        fits(&new_path)?;
        self.on_one_disk(&folder, &new_folder)?;
        let entry = self.may_make(&folder, 0)?;
        self.wasi
            .link_at(folder, flags, path, new_folder, new_path)
            .await?;
        self.made(&entry)
    }

    async fn symlink_at(
        &mut self,
        folder: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        fits(&path)?;
        self.may_link(&folder, &target)?;
        let entry = self.may_make(&folder, target.len())?;
        self.wasi.symlink_at(folder, target, path).await?;
        self.made(&entry)
    }

    async fn rename_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
        new_folder: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        fits(&path)?;
        fits(&new_path)?;
        self.on_one_disk(&folder, &new_folder)?;
        self.wasi
            .rename_at(folder, path, new_folder, new_path)
            .await
    }

    async fn set_times_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        fits(&path)?;
        if !flags.contains(PathFlags::SYMLINK_FOLLOW) {
            let set = self
                .wasi
                .set_times_at(folder, flags, path, accessed, modified);
            return set.await;
        }
        // `wasmtime_wasi` would open it, whatever it is
        let opened = self.open_to_touch(&folder, flags, &path).await?;
        let set = self.wasi.set_times(same(&opened), accessed, modified);
        let done = set.await;
        self.wasi.table.delete(opened)?;
        done
    }

    async fn write(
        &mut self,
        file: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        self.spend_write(&file, offset, wide(bytes.len()))?;
        self.wasi.write(file, bytes, offset).await
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.spend_write(&file, size, 0)?;
        self.wasi.set_size(file, size).await
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let open = self.one_more_open()?;
        let stream = self.wasi.write_via_stream(same(&file), offset)?;
        self.output(&file, Some(offset), stream, open)
    }

    fn append_via_stream(
        &mut self,
        file: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let open = self.one_more_open()?;
        let stream = self.wasi.append_via_stream(same(&file))?;
        self.output(&file, None, stream, open)
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let open = self.one_more_open()?;
        let stream = self.wasi.read_via_stream(file, offset)?;
        self.input(stream, open)
    }

    async fn read_directory(
        &mut self,
        folder: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let entries = self.may_list(&folder).await?;
        let listing = self.wasi.read_directory(folder).await?;
        self.listing(listing.rep(), entries);
        Ok(listing)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.closed(descriptor.rep());
        HostDescriptor::drop(&mut self.wasi, descriptor)
    }

    // The rest is `wasmtime_wasi`'s alone.

    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.wasi.advise(file, offset, length, advice).await
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync_data(descriptor).await
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync(descriptor).await
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.wasi.get_flags(descriptor).await
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.wasi.get_type(descriptor).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.wasi.set_times(descriptor, accessed, modified).await
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(file, length, offset).await
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.wasi.stat(descriptor).await
    }

    async fn stat_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        fits(&path)?;
        self.wasi.stat_at(folder, flags, path).await
    }

    async fn readlink_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        fits(&path)?;
        self.wasi.readlink_at(folder, path).await
    }

    async fn remove_directory_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        fits(&path)?;
        self.wasi.remove_directory_at(folder, path).await
    }

    async fn unlink_file_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<()> {
        fits(&path)?;
        self.wasi.unlink_file_at(folder, path).await
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(one, other).await
    }

    async fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash(descriptor).await
    }

    async fn metadata_hash_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        fits(&path)?;
        self.wasi.metadata_hash_at(folder, flags, path).await
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.wasi.read_directory_entry(listing).await
    }

    fn drop(&mut self, listing: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.listed(listing.rep());
        HostDirectoryEntryStream::drop(&mut self.wasi, listing)
    }
}
