//! Compiling components, in a child process that can be killed: compilation can't be interrupted.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, setrlimit, setsid};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::code::engine;

/// The largest component, in bytes. Componentized Python is 18 MB.
pub const MAX_COMPONENT_SIZE: usize = 64 * 1024 * 1024;

/// The hidden subcommand of the child: `EXE compile-component INPUT OUTPUT CPU_SECONDS MEMORY_BYTES`.
pub const COMPILE_COMMAND: &str = "compile-component";

/// The component, in the folder of the code that is made of it.
const INPUT: &str = "input";

/// `EX_DATAERR` of sysexits.h: the component is at fault, the message is on stderr.
const INVALID: u8 = 65;
/// `EX_OSERR`: the machine is.
const OS_ERROR: u8 = 71;

/// The most that the child may say, in bytes.
const MAX_MESSAGE: u64 = 64 * 1024;

/// The largest file that the child may write: the code of a component. Eight times the largest component; componentized
/// Python comes to twice its size.
const MAX_CODE: u64 = 512 << 20;
/// Files that the child may have open. It needs its input, its output, and some of the system's.
const MAX_FILES: u64 = 64;

/// Components that may wait for their turn; compiling one takes up to its time limit.
const MAX_WAITING: usize = 16;

/// Limits of compiling one component.
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
        /// Its last words.
        stderr: String,
    },
    /// Others came before it.
    #[error("{MAX_WAITING} other components wait to be compiled: try again later")]
    Busy,
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
    /// Held by who compiles.
    turn: Semaphore,
    /// Held by who compiles and by who waits for it.
    queue: Semaphore,
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
            queue: Semaphore::new(MAX_WAITING + 1),
        }))
    }

    /// Waits for the turn of a component that can be compiled, as far as its beginning and its size tell.
    pub(crate) async fn turn<'a>(&'a self, wasm: &'a [u8]) -> Result<Turn<'a>, CompileError> {
        check(wasm)?;
        let _waiting = self.0.queue.try_acquire().map_err(|_| CompileError::Busy)?;
        // the semaphore is never closed
        let _turn = self.0.turn.acquire().await.ok();
        Ok(Turn {
            wasm,
            place: &self.0.place,
            _waiting,
            _turn,
        })
    }
}

/// A component's turn to be compiled.
pub(crate) struct Turn<'a> {
    wasm: &'a [u8],
    place: &'a Place,
    _waiting: SemaphorePermit<'a>,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Turn<'_> {
    /// Compiles to the file `code`, which is alone in a private folder and so again when this returns.
    pub(crate) async fn compile(self, code: PathBuf) -> Result<(), CompileError> {
        match self.place {
            Place::Child { exe, limits } => compile_in_child(exe, *limits, self.wasm, &code).await,
            Place::InProcess => {
                let wasm = self.wasm.to_vec();
                let compiled = tokio::task::spawn_blocking(move || compile_to(&wasm, &code)).await;
                compiled.map_err(|panic| CompileError::Host(std::io::Error::other(panic)))?
            }
        }
    }
}

/// Checks that take no compiler.
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
    engine.precompile_component(wasm).map_err(|error| {
        let reason = format!("{error:#}");
        match engine::is_of_system(&error) {
            true => CompileError::Host(std::io::Error::other(reason)),
            false => CompileError::Invalid { reason },
        }
    })
}

fn compile_to(wasm: &[u8], code: &Path) -> Result<(), CompileError> {
    std::fs::write(code, compile(wasm)?).map_err(CompileError::Host)
}

/// The child's main: gives up what it does not need, and compiles the component in `input` to `output`.
pub fn compile_command(input: &Path, output: &Path, cpu_seconds: u64, memory: u64) -> ExitCode {
    let compiled = confine_this_process(cpu_seconds, memory)
        .and_then(|()| std::fs::read(input))
        .map_err(CompileError::Host)
        .and_then(|wasm| compile_to(&wasm, output));
    let (code, message) = match compiled {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CompileError::Invalid { reason }) => (INVALID, reason),
        Err(error) => (OS_ERROR, error.to_string()),
    };
    // nobody is left to hear that stderr is gone
    let _ = write!(std::io::stderr(), "{message}");
    ExitCode::from(code)
}

/// Bounds what this process may use, for good, and lets go of what ties it to others: it is in no session
/// with them, gains no rights by what it may start, and does not outlive its parent.
fn confine_this_process(cpu_seconds: u64, memory: u64) -> std::io::Result<()> {
    // The signal of the soft limit says why it ended.
    let grace = cpu_seconds.saturating_add(1);
    for (resource, soft, hard) in [
        (Resource::Cpu, cpu_seconds, grace),
        (Resource::As, memory, memory),
        (Resource::Fsize, MAX_CODE, MAX_CODE),
        (Resource::Nofile, MAX_FILES, MAX_FILES),
        (Resource::Core, 0, 0),
    ] {
        setrlimit(
            resource,
            Rlimit {
                current: Some(soft),
                maximum: Some(hard),
            },
        )?;
    }
    // Fails for who leads one already: run by hand.
    let _ = setsid();
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    end_with_parent()
}

/// Ends this process with its parent, who holds the other end of the pipe that is its standard input: run by hand, it
/// has none. (Linux has a signal for that, but sends it when the thread ends that started this process, which those
/// of a runtime do at any time.)
fn end_with_parent() -> std::io::Result<()> {
    let stdin = std::io::stdin();
    if FileType::from_raw_mode(fstat(&stdin)?.st_mode) != FileType::Fifo {
        return Ok(());
    }
    std::thread::Builder::new().spawn(move || {
        while matches!(
            rustix::io::read(&stdin, &mut [0; 1]),
            Ok(1..) | Err(Errno::INTR)
        ) {}
        std::process::exit(OS_ERROR.into());
    })?;
    Ok(())
}

async fn compile_in_child(
    exe: &Path,
    limits: CompileLimits,
    wasm: &[u8],
    code: &Path,
) -> Result<(), CompileError> {
    let input = code.with_file_name(INPUT);
    tokio::fs::write(&input, wasm)
        .await
        .map_err(CompileError::Host)?;
    let mut child = spawn(exe, limits, code).map_err(CompileError::Host)?;
    // kept open, as that is how the child knows that this process lives: `wait` would close it
    let _alive = child.stdin.take();
    let (status, stderr) = match tokio::time::timeout(limits.time, finished(&mut child)).await {
        Ok(ended) => ended.map_err(CompileError::Host)?,
        Err(_elapsed) => {
            child.kill().await.map_err(CompileError::Host)?;
            return Err(CompileError::TooSlow { limit: limits.time });
        }
    };
    match status.code() {
        Some(0) => tokio::fs::remove_file(&input)
            .await
            .map_err(CompileError::Host),
        Some(code) if code == i32::from(INVALID) => Err(CompileError::Invalid { reason: stderr }),
        Some(code) if code == i32::from(OS_ERROR) => {
            Err(CompileError::Host(std::io::Error::other(stderr)))
        }
        None if status.signal() == Some(Signal::XCPU.as_raw()) => {
            Err(CompileError::TooSlow { limit: limits.time })
        }
        _ => Err(CompileError::Crashed {
            status,
            memory: limits.memory,
            stderr,
        }),
    }
}

/// The child has no environment: that may hold the broker's password. Of this process' descriptors it has
/// none: all are closed on exec. Its CPU time is bounded too: on all cores it could use up more than the wall
/// time in which it is killed.
fn spawn(exe: &Path, limits: CompileLimits, code: &Path) -> std::io::Result<Child> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu_seconds = limits
        .time
        .as_secs()
        .saturating_add(1)
        .saturating_mul(u64::try_from(cores).unwrap_or(1));
    Command::new(exe)
        .arg(COMPILE_COMMAND)
        .arg(INPUT)
        .args(code.file_name())
        .args([cpu_seconds.to_string(), limits.memory.to_string()])
        .current_dir(code.parent().unwrap_or(Path::new(".")))
        .env_clear()
        .stdin(Stdio::piped())
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
