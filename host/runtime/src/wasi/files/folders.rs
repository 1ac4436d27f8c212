//! Folders, opened for each call that is granted some.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::granted::Granted;
use crate::limits::meter::Meter;
use crate::wasi::files::quota::Quota;
use crate::wasi::files::root::Root;
use crate::wasi::files::temp::TempRoot;
use crate::wasi::files::view::Files;

/// Folders of all calls of a runtime.
#[derive(Debug)]
pub(crate) struct Folders {
    temp: TempRoot,
    /// The files, folders and streams that each call may have open.
    open: usize,
}

impl Folders {
    /// `open`: the files, folders and streams that each call may have open.
    pub(crate) fn new(open: usize) -> Self {
        Self {
            temp: TempRoot::new(std::env::temp_dir()),
            open,
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
            return Ok(Files::new(Vec::new(), None, self.open));
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
            let quota = Quota::new(meter, None);
            roots = tokio::task::spawn_blocking(move || {
                let folders = folders.iter();
                folders
                    .map(|folder| Root::open(folder, &quota))
                    .collect::<io::Result<_>>()
            })
            .await
            .map_err(io::Error::other)??;
        }
        let mut temp = None;
        if let Some(quota) = granted.temp {
            let folder = self.temp.folder().await?;
            roots.push(Root::temporary(
                folder.folder()?,
                &Quota::new(meter, Some(quota)),
            ));
            temp = Some(folder);
        }
        Ok(Files::new(roots, temp, self.open))
    }
}
