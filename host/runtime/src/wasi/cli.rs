//! WASI 0.2, with what the task is granted: else no environment, no folders, no network. Output goes to
//! the task's log.

use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use crate::granted::Granted;
use crate::limits::counts::RANDOM_AT_ONCE;
use crate::log::task_log::{Output, TaskLog};

/// The bytes a guest may write at once.
const MAX_WRITE: usize = 64 * 1024;

/// The context of one call, made at the first need. `started`: since the Unix epoch.
pub(crate) fn context<'a>(
    made: &'a mut Option<WasiCtx>,
    log: &TaskLog,
    granted: &Granted,
    task_id: &str,
    started: Duration,
) -> &'a mut WasiCtx {
    made.get_or_insert_with(|| make(log, granted, task_id, started))
}

/// The builder grants nothing by itself.
fn make(log: &TaskLog, granted: &Granted, task_id: &str, started: Duration) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    for (name, value) in &granted.env {
        builder.env(name, value);
    }
    for (name, value) in &granted.secrets {
        builder.env(name, value.expose());
    }
    if !granted.clocks {
        builder
            .wall_clock(Standing(started))
            .monotonic_clock(Standing(Duration::ZERO));
    }
    if !granted.random {
        let numbers = |of: &str| {
            let seed = Sha256::new().chain_update(of).chain_update(task_id);
            ChaCha20Rng::from_seed(seed.finalize().into())
        };
        let mut seed = [0; 16];
        numbers("insecure-seed").fill_bytes(&mut seed);
        builder
            .insecure_random_seed(u128::from_le_bytes(seed))
            .insecure_random(numbers("insecure"))
            .secure_random(numbers("random"));
    }
    if !granted.tcp.is_empty() {
        // the destination is checked before: see `sockets`
        builder
            .allow_tcp(true)
            .socket_addr_check(|address, usage| Box::pin(ready(is_connecting(address, usage))));
    }
    builder
        .stdout(LogStream {
            log: log.clone(),
            output: Output::Stdout,
        })
        .stderr(LogStream {
            log: log.clone(),
            output: Output::Stderr,
        })
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_AT_ONCE)
        .build()
}

/// A clock that stands still.
struct Standing(Duration);

impl HostWallClock for Standing {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Standing {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Connecting takes any free port of this machine's; no other one is ever taken.
fn is_connecting(address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        SocketAddrUse::TcpConnect => true,
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        SocketAddrUse::TcpListen
        | SocketAddrUse::TcpAccept
        | SocketAddrUse::UdpBind
        | SocketAddrUse::UdpSend
        | SocketAddrUse::UdpReceive => false,
    }
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
        let written = self.log.write(self.output, &bytes);
        written.map_err(|exceeded| StreamError::Trap(exceeded.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}
