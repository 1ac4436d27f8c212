//! Components, loaded and called from outside.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod budget;
mod calls;
mod code;
mod costs;
mod egress;
mod fairness;
mod files;
mod given;
mod keyvalue;
mod limits;
mod loading;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use petiole_celery::{ChildKind, Outcome, State, child_id};
use petiole_permits::{Limit, Limits};
use petiole_runtime::*;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;

const MIB: usize = 1024 * 1024;

const LIMITS: Limits = Limits {
    memory: 4 * MIB,
    cpu_time: Duration::from_secs(60),
    time: Duration::from_secs(60),
    arguments: MIB,
    result: 64 * 1024,
    log: 1024,
    handles: 100,
    random: 4 << 20,
    host_calls: 10_000_000,
    children: 2,
    descendants: 10,
    depth: 3,
    requests: 3,
    disk: 1024,
    ..Limits::DEFAULTS
};

struct Host {
    runtime: Runtime,
    cache: Cache,
    dir: TempDir,
}

static HOST: LazyLock<Host> = LazyLock::new(|| host(32));

fn host(slots: u32) -> Host {
    let dir = private_dir();
    let cache = Cache::open(dir.path()).unwrap();
    Host {
        runtime: Runtime::new(PoolSize {
            slots,
            max_memory: 8 * MIB,
            budget: slots as usize * 32 * MIB,
            readers: 1,
        })
        .unwrap(),
        cache,
        dir,
    }
}

fn private_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(private)
        .tempdir()
        .unwrap()
}

fn wat(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime");
    wat::parse_file(folder.join(file)).unwrap()
}

fn binary(wasm: &[u8]) -> Binary<'_> {
    let sha256 = Sha256::digest(wasm).into();
    Binary { wasm, sha256 }
}

fn guest() -> Vec<u8> {
    wat("guest.wat")
}

impl Host {
    async fn load(&self, wasm: &[u8]) -> Result<Module, LoadError> {
        self.runtime
            .load(
                "my_app.tasks",
                binary(wasm),
                &self.cache,
                &Compiler::in_process(),
                Interfaces::default(),
            )
            .await
    }

    async fn guest(&self) -> Module {
        self.load(&guest()).await.unwrap()
    }
}

fn context() -> Context {
    Context {
        id: "3f1b".to_owned(),
        task: "my_app.tasks.t".to_owned(),
        retries: 1,
        root_id: "3f1b".to_owned(),
        parent_id: None,
        group_id: None,
        group_index: None,
        headers: Map::new(),
    }
}

async fn call_with(module: &Module, task: &str, args: Value, limits: Limits) -> Run {
    let task = module.task(task).expect(task);
    let arguments = task
        .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
        .unwrap();
    task.call(
        arguments,
        context(),
        limits,
        &Arc::new(Granted::none()),
        &watch::Sender::new(None),
    )
    .await
    .unwrap()
}

async fn call(module: &Module, task: &str, args: Value) -> Outcome {
    call_with(module, task, args, LIMITS).await.outcome
}

/// Type, arguments and module of the exception.
fn failure(outcome: &Outcome) -> (&str, Vec<Value>, &str) {
    match outcome {
        Outcome::Failure { exception, .. } => (
            &exception.exc_type,
            exception.exc_message.clone(),
            &exception.exc_module,
        ),
        other => panic!("not a failure: {other:?}"),
    }
}

fn own(
    exc_type: &'static str,
    message: impl Into<Value>,
) -> (&'static str, Vec<Value>, &'static str) {
    (exc_type, vec![message.into()], "petiole.exceptions")
}

/// A component with these definitions, `$f` being a function without parameters.
fn component(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (func (export "f")) (func (export "one") (result i32) i32.const 1))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            {body})"#
    );
    wat::parse_str(text).unwrap()
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
