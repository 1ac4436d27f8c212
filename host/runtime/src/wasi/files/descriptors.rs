//! The functions of `wasi:filesystem`: `wasmtime_wasi`'s, with what [`FilesView`] sees to around them.

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use crate::limits::exceeded::wide;
use crate::wasi::files::view::{FilesView, fits, same};

pub(crate) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = Vec::with_capacity(self.roots.len());
        for (number, root) in self.roots.iter().enumerate() {
            let dir = Descriptor::Dir(root.dir.clone());
            let descriptor = self.wasi.table.push(dir)?;
            self.tally.opened(descriptor.rep(), number, None);
            directories.push((descriptor, root.name.clone()));
        }
        Ok(directories)
    }
}

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
        self.tally.opened(opened.rep(), root, Some(open));
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
        self.tally.listing(listing.rep(), entries);
        Ok(listing)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.tally.closed(descriptor.rep());
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
        self.tally.listed(listing.rep());
        HostDirectoryEntryStream::drop(&mut self.wasi, listing)
    }
}
