//! Private RabbitMQ and Redis nodes, each on free ports and in a folder of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time for a node, or a worker, to start on a busy machine.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Room that a node's data needs in memory, in KiB: the tests leave some megabytes.
const ROOM: u64 = 1024 * 1024;

/// The place of a RabbitMQ node's data.
#[derive(Clone, Copy)]
pub(crate) enum Data {
    /// On the disk, as in production.
    Disk,
    /// In memory, where the machine has room. The node confirms a persistent message when it is on the disk, and its
    /// whole queue waits for that: a measured latency would be the disk's.
    Memory,
}

impl Data {
    fn folder(self, root: &Path) -> PathBuf {
        let memory = Path::new("/dev/shm");
        match self {
            Self::Memory if room(memory).is_some_and(|free| free >= ROOM) => memory.to_owned(),
            Self::Memory | Self::Disk => root.join("target/nodes"),
        }
    }
}

/// The room that a file system has left, in KiB.
fn room(folder: &Path) -> Option<u64> {
    let told = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// A server that ends with this value, or with this process: `tests/nodes/*.sh` watch their
/// standard input.
pub(crate) struct Node {
    child: Child,
    folder: PathBuf,
    /// The address that it serves.
    pub(crate) url: String,
}

impl Node {
    /// A RabbitMQ node with nothing in it.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn rabbitmq(root: &Path, data: Data) -> Result<Self> {
        let [amqp, dist, epmd] = free_ports()?;
        let arguments = [amqp, dist, epmd].map(|port| port.to_string());
        let mut node = Self::start(
            root,
            &data.folder(root),
            "rabbitmq",
            amqp,
            &arguments,
            format!("amqp://guest:guest@127.0.0.1:{amqp}/%2f"),
        )?;
        node.wait(amqp, b"AMQP\x00\x00\x09\x01", 0x01)?;
        Ok(node)
    }

    /// A Redis server with nothing in it.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn redis(root: &Path) -> Result<Self> {
        let [port] = free_ports()?;
        let mut node = Self::start(
            root,
            &Data::Disk.folder(root),
            "redis",
            port,
            &[port.to_string()],
            format!("redis://127.0.0.1:{port}/0"),
        )?;
        node.wait(port, b"PING\r\n", b'+')?;
        Ok(node)
    }

    fn start(
        root: &Path,
        data: &Path,
        kind: &str,
        port: u16,
        arguments: &[String],
        url: String,
    ) -> Result<Self> {
        let folder = data.join(format!("petiole-{kind}-{}-{port}", std::process::id()));
        let child = Command::new(root.join("tests/nodes").join(kind).with_extension("sh"))
            .arg(&folder)
            .args(arguments)
            .stdin(Stdio::piped())
            // out of reach of the terminal's ctrl-c, which is for the tests that use the node
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start the private {kind} node"))?;
        Ok(Self { child, folder, url })
    }

    /// Waits until the server answers `hello` with `answer`.
    fn wait(&mut self, port: u16, hello: &[u8], answer: u8) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if ask(port, hello).is_some_and(|reply| reply.first() == Some(&answer)) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let output =
                    std::fs::read_to_string(self.folder.join("output")).unwrap_or_default();
                bail!("no node at {} ({ended:?}):\n{output}", self.url);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Waits until a worker's HTTP API says that it is ready.
///
/// # Errors
/// If it has ended, or does not say so in time.
pub(crate) fn wait_ready(worker: &mut Child, http: u16) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    let hello = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    loop {
        if ask(http, hello).is_some_and(|reply| reply.starts_with(b"HTTP/1.1 200")) {
            return Ok(());
        }
        if let Some(status) = worker.try_wait()? {
            bail!("the worker ended before it was ready: {status}");
        }
        if Instant::now() > deadline {
            bail!("the worker was not ready in {} s", START_DEADLINE.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// The first bytes that a server on this machine answers.
fn ask(port: u16, hello: &[u8]) -> Option<Vec<u8>> {
    let timeout = Duration::from_secs(1);
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    stream.write_all(hello).ok()?;
    let mut reply = vec![0; 64];
    let read = stream.read(&mut reply).ok()?;
    reply.truncate(read);
    Some(reply)
}

/// Ports that are free now, all different.
///
/// # Errors
/// If the system has none.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
