//! WASI 0.2, empty-handed: no environment, no folders, no network; output goes to the task's log.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::task_log::{Output, TaskLog};

/// The bytes a guest may ask of `wasi:random` at once.
const MAX_RANDOM: u64 = 1024 * 1024;

/// The bytes a guest may write at once.
const MAX_WRITE: usize = 64 * 1024;

/// The context of one call. What [`WasiCtxBuilder`] does not grant by itself is not granted.
pub(crate) fn context(log: &TaskLog) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(LogStream {
            log: log.clone(),
            output: Output::Stdout,
        })
        .stderr(LogStream {
            log: log.clone(),
            output: Output::Stderr,
        })
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM)
        .build()
}

#[derive(Clone)]
struct LogStream {
    log: TaskLog,
    output: Output,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    /// WASI 0.3's way of writing, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    /// The default wraps [`async_stream`](Self::async_stream), and queues empty writes without bound.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.output, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}
