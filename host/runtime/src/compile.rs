//! Compiling components, in a child process that can be killed: compilation can't be interrupted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::engine;

/// The largest component, in bytes. Componentized Python is 18 MB.
pub const MAX_COMPONENT_SIZE: usize = 64 * 1024 * 1024;

/// The hidden subcommand of the child: `EXE compile-component INPUT OUTPUT CPU_SECONDS MEMORY_BYTES`.
pub const COMPILE_COMMAND: &str = "compile-component";

/// `EX_DATAERR` of sysexits.h: the component is at fault, the message is on stderr.
const INVALID: u8 = 65;
/// `EX_OSERR`: the machine is.
const OS_ERROR: u8 = 71;

/// What the child may say, in bytes.
const MAX_MESSAGE: u64 = 64 * 1024;

/// What compiling one component may take.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    /// Wall time. 618 KB of one large function take 7 s, componentized Python 12 s.
    pub time: Duration,
    /// Address space of the child, in bytes.
    pub memory: u64,
}

/// A component does not compile.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not WebAssembly at all.
    #[error(
        "this is not WebAssembly: it begins with {start:02x?}, a component with [00, 61, 73, 6d]"
    )]
    NotWasm {
        /// Its first bytes, at most 8.
        start: Vec<u8>,
    },
    /// A core module.
    #[error(
        "this is a core module, not a component: build for the target wasm32-wasip2, or run \
         `wasm-tools component new core.wasm --adapt wasi_snapshot_preview1=reactor.wasm -o task.wasm`"
    )]
    CoreModule,
    /// Larger than any component may be.
    #[error("the component is {size} bytes: the limit is {MAX_COMPONENT_SIZE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// WebAssembly that is not valid, or that this worker's settings do not allow.
    #[error("the component is not valid: {reason}")]
    Invalid {
        /// The compiler's words.
        reason: String,
    },
    /// The child was killed.
    #[error("compiling takes longer than {limit:?}: split large functions, or raise the limit")]
    TooSlow {
        /// As configured.
        limit: Duration,
    },
    /// The child ended without a word: most often there was too little memory for it.
    #[error(
        "the compiler ended by itself ({status}): the component needs more than {memory} bytes of memory to compile, or the compiler failed: {stderr}"
    )]
    Crashed {
        /// Its exit status.
        status: ExitStatus,
        /// As configured.
        memory: u64,
        /// What it said.
        stderr: String,
    },
    /// The compiler can't be run: no fault of the component.
    #[error("can't run the compiler: {0}")]
    Host(#[source] std::io::Error),
}

/// Compiles components, one at a time. A clone is the same compiler.
#[derive(Debug, Clone)]
pub struct Compiler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    turn: Semaphore,
}

#[derive(Debug)]
enum Place {
    Child { exe: PathBuf, limits: CompileLimits },
    InProcess,
}

impl Compiler {
    /// Compiles in a child process: `exe` with the subcommand [`COMPILE_COMMAND`], which must call
    /// [`compile_command`]. For components that others wrote.
    pub fn child(exe: PathBuf, limits: CompileLimits) -> Self {
        Self::new(Place::Child { exe, limits })
    }

    /// Compiles in this process, without limits: for one's own components.
    pub fn in_process() -> Self {
        Self::new(Place::InProcess)
    }

    fn new(place: Place) -> Self {
        Self(Arc::new(Inner {
            place,
            turn: Semaphore::new(1),
        }))
    }

    /// Compiled code; `dir` is a private folder for the files on the way.
    pub(crate) async fn compile(&self, wasm: &[u8], dir: &Path) -> Result<Vec<u8>, CompileError> {
        check(wasm)?;
        // the semaphore is never closed
        let _turn = self.0.turn.acquire().await.ok();
        match &self.0.place {
            Place::Child { exe, limits } => compile_in_child(exe, *limits, wasm, dir).await,
            Place::InProcess => {
                let wasm = wasm.to_vec();
                let compiled = tokio::task::spawn_blocking(move || compile(&wasm)).await;
                compiled.map_err(|panic| CompileError::Host(std::io::Error::other(panic)))?
            }
        }
    }
}

/// What can be told without compiling.
fn check(wasm: &[u8]) -> Result<(), CompileError> {
    if wasm.len() > MAX_COMPONENT_SIZE {
        return Err(CompileError::TooLarge { size: wasm.len() });
    }
    // the version field holds the version and the layer: 1 is a component
    match wasm {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', ..] => Err(CompileError::CoreModule),
        _ => Err(CompileError::NotWasm {
            start: wasm.iter().take(8).copied().collect(),
        }),
    }
}

/// Compiles a component, in this process. Takes binaries only: wasmtime is built without its text format.
fn compile(wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    check(wasm)?;
    let engine =
        engine::compiling().map_err(|error| CompileError::Host(std::io::Error::other(error)))?;
    engine
        .precompile_component(wasm)
        .map_err(|error| CompileError::Invalid {
            reason: format!("{error:#}"),
        })
}

/// The child's main: limits itself, compiles the component in `input` to `output`.
pub fn compile_command(input: &Path, output: &Path, cpu_seconds: u64, memory: u64) -> ExitCode {
    let compiled = limit_this_process(cpu_seconds, memory)
        .and_then(|()| std::fs::read(input))
        .map_err(CompileError::Host)
        .and_then(|wasm| compile(&wasm))
        .and_then(|code| std::fs::write(output, code).map_err(CompileError::Host));
    let (code, message) = match compiled {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CompileError::Invalid { reason }) => (INVALID, reason),
        Err(error) => (OS_ERROR, error.to_string()),
    };
    // nobody is left to hear that stderr is gone
    let _ = write!(std::io::stderr(), "{message}");
    ExitCode::from(code)
}

/// Bounds the CPU time and the address space of this process, for good.
fn limit_this_process(cpu_seconds: u64, memory: u64) -> std::io::Result<()> {
    for (resource, limit) in [
        (Resource::Cpu, cpu_seconds),
        (Resource::As, memory),
        (Resource::Core, 0),
    ] {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )?;
    }
    Ok(())
}

async fn compile_in_child(
    exe: &Path,
    limits: CompileLimits,
    wasm: &[u8],
    dir: &Path,
) -> Result<Vec<u8>, CompileError> {
    let work = tempfile::Builder::new()
        .prefix("compile-")
        .tempdir_in(dir)
        .map_err(CompileError::Host)?;
    let (input, output) = (work.path().join("input"), work.path().join("output"));
    tokio::fs::write(&input, wasm)
        .await
        .map_err(CompileError::Host)?;
    let mut child = spawn(exe, limits, &input, &output).map_err(CompileError::Host)?;
    let (status, stderr) = match tokio::time::timeout(limits.time, finished(&mut child)).await {
        Ok(ended) => ended.map_err(CompileError::Host)?,
        Err(_elapsed) => {
            child.kill().await.map_err(CompileError::Host)?;
            return Err(CompileError::TooSlow { limit: limits.time });
        }
    };
    match status.code() {
        Some(0) => tokio::fs::read(&output).await.map_err(CompileError::Host),
        Some(code) if code == i32::from(INVALID) => Err(CompileError::Invalid { reason: stderr }),
        Some(code) if code == i32::from(OS_ERROR) => {
            Err(CompileError::Host(std::io::Error::other(stderr)))
        }
        _ => Err(CompileError::Crashed {
            status,
            memory: limits.memory,
            stderr,
        }),
    }
}

/// The child has no environment: that may hold the broker's password. Its CPU time is bounded too,
/// in case this process is gone before it.
fn spawn(exe: &Path, limits: CompileLimits, input: &Path, output: &Path) -> std::io::Result<Child> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu_seconds = limits
        .time
        .as_secs()
        .saturating_add(1)
        .saturating_mul(u64::try_from(cores).unwrap_or(1));
    Command::new(exe)
        .arg(COMPILE_COMMAND)
        .args([input, output])
        .args([cpu_seconds.to_string(), limits.memory.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn finished(child: &mut Child) -> std::io::Result<(ExitStatus, String)> {
    let mut message = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(MAX_MESSAGE).read_to_end(&mut message).await?;
    }
    let status = child.wait().await?;
    Ok((status, String::from_utf8_lossy(&message).into_owned()))
}
