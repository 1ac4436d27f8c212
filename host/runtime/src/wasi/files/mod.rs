//! The folders of a call: the operator's, and `/tmp`. What is in them is reached through `wasmtime_wasi`, which
//! lets no path and no link lead out of a folder; how much a guest may write, make and keep open is seen to here.

mod descriptors;
mod streams;
mod temp;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use petiole_permits::Access;
use rustix::fs::{AtFlags, Dir as Entries, Mode, OFlags, StatxFlags, statx};
use rustix::process::{Resource as ProcessLimit, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{
    Descriptor, Dir, FsPerms, OpenMode, WasiFilesystemCtx, WasiFilesystemCtxView,
};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use crate::granted::Granted;
use crate::host::Sandbox;
use crate::limits::meter::Meter;
use crate::limits::{LimitExceeded, wide};
use crate::wasi::files::streams::{FileInput, FileOutput, Open};
use crate::wasi::files::temp::{TempFolder, TempRoot};

/// Files, folders and links that a call may make.
const MAX_MADE: usize = 10_000;
/// Files, folders and streams that a call may have open, where the process has descriptors enough.
const MAX_OPEN: usize = 256;
/// And where it has too few: what any program needs.
const MIN_OPEN: usize = 8;
/// Entries of folders that a call may be listing: they are in the host's memory until the guest drops the list.
const MAX_LISTED: usize = 50_000;
/// What a path, or a link's target, may have in bytes: as much as the kernel takes.
const MAX_PATH: usize = 4096;
/// What a file, folder or link counts for when it is made, in bytes, beside what is written to it: whatever its
/// size, it takes a block of the disk, and the last one of its content is seldom full.
const ENTRY: u64 = 4096;

/// What the calls of a runtime share.
#[derive(Debug)]
pub(crate) struct Storage {
    temp: TempRoot,
    /// What each may have open.
    open: usize,
}

/// What a call has of files.
pub(crate) struct Files {
    ctx: WasiFilesystemCtx,
    roots: Vec<Root>,
    temp: Option<TempFolder>,
    held: Held,
}

/// A folder as the guest finds it.
struct Root {
    /// From the guest's root folder on.
    name: String,
    dir: Dir,
    account: Account,
    /// Whether it goes with the run, so that nobody else will ever follow a link in it.
    own: bool,
}

/// What the guest has open, and has made.
struct Held {
    /// By their handles.
    descriptors: HashMap<u32, Place>,
    /// How many entries each listing has, by their handles.
    listings: HashMap<u32, usize>,
    listed: usize,
    made: usize,
    open: Arc<AtomicUsize>,
    allowed: usize,
}

/// Where an open file or folder is.
struct Place {
    /// The number of its root.
    root: usize,
    /// None for a root itself, which is open anyway.
    _open: Option<Open>,
}

/// What is written to a root is taken from here.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    meter: Arc<Meter>,
    /// What is left of the root's own, in bytes.
    quota: Option<Arc<AtomicU64>>,
}

/// A file, folder or link that may be made, and what it will be counted as.
pub(crate) struct Entry {
    account: Account,
    bytes: u64,
}

/// Why nothing is written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The call's limit: ends the task.
    Limit(LimitExceeded),
    /// The folder's own: the guest is told, as by a disk that is full.
    Full(io::Error),
}

impl Storage {
    /// For a runtime of so many slots.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            temp: TempRoot::new(std::env::temp_dir()),
            open: open_for_each(raise_descriptors(), slots),
        }
    }

    /// Opens what a call is granted, and waits so long for that.
    pub(crate) async fn open(
        &self,
        granted: &Granted,
        meter: &Arc<Meter>,
        patience: Duration,
    ) -> io::Result<Files> {
        if granted.folders.is_empty() && granted.temp.is_none() {
            return Ok(self.files(Vec::new(), None));
        }
        let late = |_| {
            let text = format!(
                "the task's folders can't be opened within {} s",
                patience.as_secs_f64()
            );
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        timeout(patience, self.open_all(granted, meter))
            .await
            .map_err(late)?
    }

    async fn open_all(&self, granted: &Granted, meter: &Arc<Meter>) -> io::Result<Files> {
        let mut roots = Vec::new();
        if !granted.folders.is_empty() {
            let folders = granted.folders.clone();
            let account = Account {
                meter: Arc::clone(meter),
                quota: None,
            };
            roots = tokio::task::spawn_blocking(move || {
                let folders = folders.iter();
                folders
                    .map(|folder| {
                        let dir =
                            directory(&folder.host).map_err(|error| named(&error, &folder.host))?;
                        Ok(root(&folder.guest, dir, folder.access, &account, false))
                    })
                    .collect::<io::Result<_>>()
            })
            .await
            .map_err(io::Error::other)??;
        }
        let mut temp = None;
        if let Some(quota) = granted.temp {
            let folder = self.temp.folder().await?;
            let account = Account {
                meter: Arc::clone(meter),
                quota: Some(Arc::new(AtomicU64::new(quota))),
            };
            let dir = folder.folder()?;
            roots.push(root("tmp", dir, Access::ReadWrite, &account, true));
            temp = Some(folder);
        }
        Ok(self.files(roots, temp))
    }

    fn files(&self, roots: Vec<Root>, temp: Option<TempFolder>) -> Files {
        Files {
            ctx: WasiFilesystemCtx::default(),
            roots,
            temp,
            held: Held {
                descriptors: HashMap::new(),
                listings: HashMap::new(),
                listed: 0,
                made: 0,
                open: Arc::default(),
                allowed: self.open,
            },
        }
    }
}

fn root(name: &str, dir: File, access: Access, account: &Account, own: bool) -> Root {
    let (perms, mode) = match access {
        Access::ReadOnly => (FsPerms::ReadOnly, OpenMode::READ),
        Access::ReadWrite => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
    };
    Root {
        name: format!("/{name}"),
        dir: Dir::new(dir, perms, mode, false),
        account: account.clone(),
        own,
    }
}

fn directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("folder {}: {error}", path.display()))
}

/// Lets the process have as many descriptors as it may, and returns how many. Its default is of a time when
/// programs could not stand more.
pub(crate) fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(ProcessLimit::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(ProcessLimit::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// Half of the process's descriptors, shared out among the slots: the guests together can't take those that the
/// worker needs.
fn open_for_each(descriptors: u64, slots: u32) -> usize {
    let share = descriptors / 2 / u64::from(slots.max(1));
    usize::try_from(share)
        .unwrap_or(MAX_OPEN)
        .clamp(MIN_OPEN, MAX_OPEN)
}

impl Account {
    /// Counts bytes before they are written.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), Refusal> {
        if let Some(quota) = &self.quota {
            let take = |left: u64| left.checked_sub(bytes);
            quota
                .fetch_update(Relaxed, Relaxed, take)
                .map_err(|_| Refusal::Full(rustix::io::Errno::NOSPC.into()))?;
        }
        self.meter.disk(bytes).map_err(Refusal::Limit)
    }

    /// Whether the root's own has so much left.
    fn has(&self, bytes: u64) -> bool {
        let quota = self.quota.as_ref();
        quota.is_none_or(|quota| quota.load(Relaxed) >= bytes)
    }
}

impl From<Refusal> for FsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limit(exceeded) => Self::trap(exceeded),
            Refusal::Full(error) => error.into(),
        }
    }
}

impl Files {
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
            held: &mut self.held,
        }
    }
}

/// The data of a host function of `wasi:filesystem`.
pub(crate) struct FilesView<'a> {
    pub(crate) wasi: WasiFilesystemCtxView<'a>,
    roots: &'a [Root],
    held: &'a mut Held,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

/// Takes the place of what `wasmtime_wasi` has linked.
pub(crate) fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasFiles>(linker, Sandbox::files)?;
    preopens::add_to_linker::<_, HasFiles>(linker, Sandbox::files)
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = Vec::with_capacity(self.roots.len());
        for (number, root) in self.roots.iter().enumerate() {
            let descriptor = self.wasi.table.push(Descriptor::Dir(root.dir.clone()))?;
            let place = Place {
                root: number,
                _open: None,
            };
            self.held.descriptors.insert(descriptor.rep(), place);
            directories.push((descriptor, root.name.clone()));
        }
        Ok(directories)
    }
}

impl FilesView<'_> {
    fn root(&self, descriptor: &Resource<Descriptor>) -> FsResult<(usize, &Root)> {
        // every descriptor is entered where it is made
        let place = self.held.descriptors.get(&descriptor.rep());
        place
            .and_then(|place| Some((place.root, self.roots.get(place.root)?)))
            .ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    fn account(&self, descriptor: &Resource<Descriptor>) -> FsResult<Account> {
        Ok(self.root(descriptor)?.1.account.clone())
    }

    /// As if each root were a disk of its own: so that what is in one stays in it, and is counted there.
    pub(crate) fn on_one_disk(
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

    /// Whether a symbolic link to `target` may be made there. Guests are led nowhere by one that leads out of
    /// its folder, but other programs that use the operator's folder would be.
    pub(crate) fn may_link(&self, descriptor: &Resource<Descriptor>, target: &str) -> FsResult<()> {
        fits(target)?;
        let (_, root) = self.root(descriptor)?;
        if root.own || !leads_out(target) {
            Ok(())
        } else {
            Err(ErrorCode::NotPermitted.into())
        }
    }

    /// One more file, folder or link, with so many bytes in it, if it may be made in that folder.
    pub(crate) fn may_make(&self, folder: &Resource<Descriptor>, bytes: usize) -> FsResult<Entry> {
        let account = self.account(folder)?;
        let bytes = ENTRY.saturating_add(wide(bytes));
        if self.held.made < MAX_MADE && account.has(bytes) {
            Ok(Entry { account, bytes })
        } else {
            // what a disk that is full, or without inodes, says
            Err(ErrorCode::InsufficientSpace.into())
        }
    }

    /// Counts an entry, when it is made: programs make folders that are there already, which costs nothing.
    pub(crate) fn made(&mut self, entry: &Entry) -> FsResult<()> {
        self.held.made = self.held.made.saturating_add(1);
        entry.account.spend(entry.bytes)?;
        Ok(())
    }

    /// Enters one more file or stream that is open.
    pub(crate) fn one_more_open(&self) -> FsResult<Open> {
        Open::one_of(self.held.allowed, &self.held.open)
            // wasi:filesystem has no word for EMFILE
            .ok_or_else(|| ErrorCode::InsufficientMemory.into())
    }

    /// Enters what was opened, which is where `parent` is.
    pub(crate) fn opened(&mut self, descriptor: &Resource<Descriptor>, parent: usize, open: Open) {
        let place = Place {
            root: parent,
            _open: Some(open),
        };
        self.held.descriptors.insert(descriptor.rep(), place);
    }

    pub(crate) fn root_number(&self, descriptor: &Resource<Descriptor>) -> FsResult<usize> {
        Ok(self.root(descriptor)?.0)
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.held.descriptors.remove(&descriptor);
    }

    /// Counts what a write at `offset` adds to a file, before it is written: what would lie between its end
    /// and there as well.
    pub(crate) fn spend_write(
        &self,
        descriptor: &Resource<Descriptor>,
        offset: u64,
        bytes: u64,
    ) -> FsResult<()> {
        let gap = offset.saturating_sub(self.size(descriptor)?);
        self.account(descriptor)?.spend(gap.saturating_add(bytes))?;
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
            // where there is no such call, or a filter of calls that is older than it
            Err(_) => Ok(file.file.metadata()?.len()),
        }
    }

    pub(crate) fn input(
        &mut self,
        inner: Resource<DynInputStream>,
        open: Open,
    ) -> FsResult<Resource<DynInputStream>> {
        let inner = self.wasi.table.delete(inner)?;
        let stream: DynInputStream = Box::new(FileInput { inner, _open: open });
        Ok(self.wasi.table.push(stream)?)
    }

    /// `offset`: where the first write goes to; none for the end.
    pub(crate) fn output(
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
            account: self.account(file)?,
            inner: self.wasi.table.delete(inner)?,
            gap,
            _open: open,
        });
        Ok(self.wasi.table.push(stream)?)
    }

    /// How many entries a folder has, if a call may list so many.
    pub(crate) async fn may_list(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<usize> {
        let dir = match self.wasi.table.get(descriptor)? {
            Descriptor::Dir(dir) => Arc::clone(&dir.dir),
            Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
        };
        let room = MAX_LISTED.saturating_sub(self.held.listed);
        let entries = tokio::task::spawn_blocking(move || {
            let entries = Entries::read_from(dir)?;
            io::Result::Ok(entries.take(room.saturating_add(1)).count())
        });
        match entries.await.map_err(FsError::trap)?? {
            entries if entries <= room => Ok(entries),
            _ => Err(ErrorCode::InsufficientMemory.into()),
        }
    }

    pub(crate) fn listing(&mut self, listing: u32, entries: usize) {
        self.held.listings.insert(listing, entries);
        self.held.listed = self.held.listed.saturating_add(entries);
    }

    pub(crate) fn listed(&mut self, listing: u32) {
        let entries = self.held.listings.remove(&listing).unwrap_or_default();
        self.held.listed = self.held.listed.saturating_sub(entries);
    }
}

/// Whether a path, or a link's target, is one that the kernel takes. Asked before anything looks through it.
pub(crate) fn fits(path: &str) -> FsResult<()> {
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

    #[test]
    fn descriptors_are_shared_out() {
        for (descriptors, slots, each) in [
            (u64::MAX, 1, MAX_OPEN),
            (524_288, 1000, MAX_OPEN),
            (1024, 2, MAX_OPEN),
            (1024, 8, 64),
            (1024, 1000, MIN_OPEN),
            (1024, 0, MAX_OPEN),
        ] {
            assert_eq!(open_for_each(descriptors, slots), each);
        }
    }
}
