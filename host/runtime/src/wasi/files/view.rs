//! The files of a call as its host functions see them: every path, and the number and size of what is made, opened and
//! written, is checked here. `wasmtime_wasi` sees to it that no path and no link leads out of a folder.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir as Entries, StatxFlags, statx};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use crate::limits::exceeded::wide;
use crate::wasi::files::quota::Quota;
use crate::wasi::files::root::Root;
use crate::wasi::files::streams::{FileInput, FileOutput};
use crate::wasi::files::tally::{Open, Tally};
use crate::wasi::files::temp::TempFolder;

/// The most bytes of a path, or of a link's target: as much as the kernel takes.
const MAX_PATH: usize = 4096;
/// The bytes that a file, folder or link counts for when it is made, beside what is written to it: whatever its
/// size, it takes a block of the disk, and the last one of its content is seldom full.
const ENTRY: u64 = 4096;

/// Files of one call.
pub(crate) struct Files {
    ctx: WasiFilesystemCtx,
    roots: Vec<Root>,
    temp: Option<TempFolder>,
    tally: Tally,
}

/// The data of a host function of `wasi:filesystem`.
pub(crate) struct FilesView<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) roots: &'a [Root],
    pub(super) tally: &'a mut Tally,
}

/// A file, folder or link that may be made.
pub(super) struct Creation {
    quota: Quota,
    /// The bytes that it will count as.
    bytes: u64,
}

impl Files {
    /// `open`: the files, folders and streams that the call may have open.
    pub(super) fn new(roots: Vec<Root>, temp: Option<TempFolder>, open: usize) -> Self {
        Self {
            ctx: WasiFilesystemCtx::default(),
            roots,
            temp,
            tally: Tally::new(open),
        }
    }

    /// The run's folder, to be removed when its store is gone.
    pub(crate) fn take_temp(&mut self) -> Option<TempFolder> {
        self.temp.take()
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> FilesView<'a> {
        FilesView {
            wasi: WasiFilesystemCtxView {
                ctx: &mut self.ctx,
                table,
            },
            roots: &self.roots,
            tally: &mut self.tally,
        }
    }
}

impl FilesView<'_> {
    fn root(&self, descriptor: &Resource<Descriptor>) -> FsResult<(usize, &Root)> {
        // every descriptor is entered where it is made
        let number = self.tally.root(descriptor.rep());
        number
            .and_then(|number| Some((number, self.roots.get(number)?)))
            .ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    fn quota(&self, descriptor: &Resource<Descriptor>) -> FsResult<Quota> {
        Ok(self.root(descriptor)?.1.quota.clone())
    }

    /// As if each root were a disk of its own: so that what is in one stays in it, and is counted there.
    pub(super) fn on_one_disk(
        &self,
        one: &Resource<Descriptor>,
        other: &Resource<Descriptor>,
    ) -> FsResult<()> {
        if self.root(one)?.0 == self.root(other)?.0 {
            Ok(())
        } else {
            Err(ErrorCode::CrossDevice.into())
        }
    }

    /// Refuses a symbolic link to `target` that may not be made there. Guests are led nowhere by one that leads out of
    /// its folder, but other programs that use the operator's folder would be.
    pub(super) fn may_link(&self, descriptor: &Resource<Descriptor>, target: &str) -> FsResult<()> {
        fits(target)?;
        let (_, root) = self.root(descriptor)?;
        if root.temporary || !leads_out(target) {
            Ok(())
        } else {
            Err(ErrorCode::NotPermitted.into())
        }
    }

    /// One more file, folder or link, with `bytes` in it, if it may be made in that folder.
    pub(super) fn may_make(
        &self,
        folder: &Resource<Descriptor>,
        bytes: usize,
    ) -> FsResult<Creation> {
        let quota = self.quota(folder)?;
        let bytes = ENTRY.saturating_add(wide(bytes));
        if self.tally.may_make() && quota.has(bytes) {
            Ok(Creation { quota, bytes })
        } else {
            // as from a disk that is full, or without inodes
            Err(ErrorCode::InsufficientSpace.into())
        }
    }

    /// Counts an entry, when it is made: programs make folders that are there already, which costs nothing.
    pub(super) fn made(&mut self, entry: &Creation) -> FsResult<()> {
        self.tally.made();
        entry.quota.spend(entry.bytes)?;
        Ok(())
    }

    /// Enters one more file or stream that is open.
    pub(super) fn one_more_open(&self) -> FsResult<Open> {
        self.tally
            .open_one()
            // wasi:filesystem has no word for EMFILE
            .ok_or_else(|| ErrorCode::InsufficientMemory.into())
    }

    pub(super) fn root_number(&self, descriptor: &Resource<Descriptor>) -> FsResult<usize> {
        Ok(self.root(descriptor)?.0)
    }

    /// Counts what a write at `offset` adds to a file, before it is written: what would lie between its end
    /// and there as well.
    pub(super) fn spend_write(
        &self,
        descriptor: &Resource<Descriptor>,
        offset: u64,
        bytes: u64,
    ) -> FsResult<()> {
        let gap = offset.saturating_sub(self.size(descriptor)?);
        self.quota(descriptor)?.spend(gap.saturating_add(bytes))?;
        Ok(())
    }

    /// In bytes; 0 for a folder. As far as the kernel knows: this runs on the threads that run tasks, so nobody
    /// is asked for it over a network.
    fn size(&self, descriptor: &Resource<Descriptor>) -> FsResult<u64> {
        let Descriptor::File(file) = self.wasi.table.get(descriptor)? else {
            return Ok(0);
        };
        let known = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        match statx(&file.file, "", known, StatxFlags::SIZE) {
            Ok(stat) => Ok(stat.stx_size),
            // the system has no such call, or a filter of calls that is older than it
            Err(_) => Ok(file.file.metadata()?.len()),
        }
    }

    pub(super) fn input(
        &mut self,
        inner: Resource<DynInputStream>,
        open: Open,
    ) -> FsResult<Resource<DynInputStream>> {
        let inner = self.wasi.table.delete(inner)?;
        let stream: DynInputStream = Box::new(FileInput { inner, _open: open });
        Ok(self.wasi.table.push(stream)?)
    }

    /// `offset`: where the first write goes to; none for the end.
    pub(super) fn output(
        &mut self,
        file: &Resource<Descriptor>,
        offset: Option<u64>,
        inner: Resource<DynOutputStream>,
        open: Open,
    ) -> FsResult<Resource<DynOutputStream>> {
        let gap = match offset {
            Some(offset) => offset.saturating_sub(self.size(file)?),
            None => 0,
        };
        let stream: DynOutputStream = Box::new(FileOutput {
            quota: self.quota(file)?,
            inner: self.wasi.table.delete(inner)?,
            gap,
            _open: open,
        });
        Ok(self.wasi.table.push(stream)?)
    }

    /// The number of a folder's entries, if a call may list that many.
    pub(super) async fn may_list(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<usize> {
        let dir = match self.wasi.table.get(descriptor)? {
            Descriptor::Dir(dir) => Arc::clone(&dir.dir),
            Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
        };
        let room = self.tally.room_for_listing();
        let entries = tokio::task::spawn_blocking(move || {
            let entries = Entries::read_from(dir)?;
            io::Result::Ok(entries.take(room.saturating_add(1)).count())
        });
        match entries.await.map_err(FsError::trap)?? {
            entries if entries <= room => Ok(entries),
            _ => Err(ErrorCode::InsufficientMemory.into()),
        }
    }
}

/// The descriptor once more: the functions of `wasmtime_wasi` take theirs.
pub(super) fn same(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}

/// Refuses a path, or a link's target, that the kernel does not take. Asked before anything looks through it.
pub(super) fn fits(path: &str) -> FsResult<()> {
    if path.len() <= MAX_PATH {
        Ok(())
    } else {
        Err(ErrorCode::NameTooLong.into())
    }
}

fn leads_out(target: &str) -> bool {
    Path::new(target)
        .components()
        .any(|part| matches!(part, Component::ParentDir | Component::RootDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_out_by_going_up_or_to_the_root() {
        for (target, out) in [
            ("a", false),
            ("a/b/.", false),
            ("..a/b..", false),
            ("", false),
            ("..", true),
            ("a/../../b", true),
            ("a/..", true),
            ("/etc/passwd", true),
            ("//", true),
        ] {
            assert_eq!(leads_out(target), out, "{target:?}");
        }
    }
}
