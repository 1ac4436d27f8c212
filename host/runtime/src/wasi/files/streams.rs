//! Streams of a guest's files: bytes are counted before they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::limits::wide;
use crate::wasi::files::{Account, Refusal};

/// One of the files and streams that a call may have open. It counts for as long as this lives.
#[derive(Debug)]
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    /// None where there are `allowed` already.
    pub(crate) fn one_of(allowed: usize, count: &Arc<AtomicUsize>) -> Option<Self> {
        if count.load(Relaxed) >= allowed {
            return None;
        }
        // only the guest's own calls, one after the other, open anything
        count.fetch_add(1, Relaxed);
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What is read of a file. It keeps the file open, also when the guest has dropped that.
pub(crate) struct FileInput {
    pub(crate) inner: DynInputStream,
    pub(crate) _open: Open,
}

/// What is written to a file.
pub(crate) struct FileOutput {
    pub(crate) inner: DynOutputStream,
    pub(crate) account: Account,
    /// Between the file's end and where the first write goes to, in bytes: counted as written with it.
    pub(crate) gap: u64,
    pub(crate) _open: Open,
}

impl FileOutput {
    fn spend(&mut self, bytes: &Bytes) -> StreamResult<()> {
        let more = wide(bytes.len()).saturating_add(self.gap);
        self.account.spend(more).map_err(|refusal| match refusal {
            Refusal::Limit(exceeded) => StreamError::Trap(exceeded.into()),
            Refusal::Full(error) => StreamError::LastOperationFailed(error.into()),
        })?;
        // a write that was refused leaves it to the next one
        self.gap = 0;
        Ok(())
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.spend(&bytes)?;
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.spend(&bytes)?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
