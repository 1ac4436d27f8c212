//! Streams of a guest's files: bytes are counted before they are written.

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult,
};

use crate::limits::exceeded::wide;
use crate::wasi::files::quota::Quota;
use crate::wasi::files::tally::Open;

/// Reads a file, which it keeps open, also when the guest has dropped that.
pub(super) struct FileInput {
    pub(super) inner: DynInputStream,
    pub(super) _open: Open,
}

/// Writes a file.
pub(super) struct FileOutput {
    pub(super) inner: DynOutputStream,
    pub(super) quota: Quota,
    /// Between the file's end and where the first write goes to, in bytes: counted as written with it.
    pub(super) gap: u64,
    pub(super) _open: Open,
}

impl FileOutput {
    fn spend(&mut self, bytes: &Bytes) -> StreamResult<()> {
        let more = wide(bytes.len()).saturating_add(self.gap);
        self.quota.spend(more)?;
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
