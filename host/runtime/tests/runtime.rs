//! Components, loaded and called from outside.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use petiole_celery::{ChildKind, Outcome, State, child_id};
use petiole_runtime::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

const MIB: usize = 1024 * 1024;

const LIMITS: Limits = Limits {
    memory: 4 * MIB,
    time: Duration::from_secs(60),
    soft_time: None,
    result: 64 * 1024,
    log: 16,
    children: 2,
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

fn guest() -> Vec<u8> {
    wat::parse_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest.wat")).unwrap()
}

impl Host {
    async fn load(&self, wasm: &[u8]) -> Result<Module, LoadError> {
        self.runtime
            .load("my_app.tasks", wasm, &self.cache, &Compiler::in_process())
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
    let arguments = task.bind(args.as_array().unwrap(), &Map::new()).unwrap();
    task.call(arguments, context(), limits, &watch::Sender::new(None))
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

#[tokio::test]
async fn values_come_back() {
    let module = HOST.guest().await;
    for (task, args, result) in [
        ("add", json!([2, 3]), json!(5)),
        (
            "add",
            json!(["9007199254740993", -1]),
            json!(9_007_199_254_740_992_i64),
        ),
        ("echo", json!(["grün"]), json!("grün")),
        ("echo_bytes", json!([[0, 255, 7]]), json!("AP8H")),
        ("echo_bytes", json!(["AP8H"]), json!("AP8H")),
        (
            "echo_bytes",
            json!([{"__type__": "bytes", "__value__": "hi"}]),
            json!("aGk="),
        ),
        ("maybe", json!([1]), json!(0)),
        ("maybe", json!([1, 5]), json!(1)),
        ("my_id", json!([]), json!("3f1b")),
        ("say", json!(["hello"]), json!(null)),
    ] {
        assert_eq!(
            call(&module, task, args).await,
            Outcome::Success(result),
            "{task}"
        );
    }
}

#[tokio::test]
async fn each_call_has_a_fresh_store() {
    let module = HOST.guest().await;
    for _ in 0..3 {
        assert_eq!(
            call(&module, "count", json!([])).await,
            Outcome::Success(json!(1))
        );
    }
}

#[tokio::test]
async fn an_err_is_a_failure() {
    let module = HOST.guest().await;
    let fail = call(&module, "fail", json!(["no such shop"])).await;
    assert_eq!(failure(&fail), own("TaskError", "no such shop"));
    let find = call(&module, "find", json!([0])).await;
    assert_eq!(failure(&find), ("NotFound", vec![], "petiole.exceptions"));
    let find = call(&module, "find", json!([1])).await;
    assert_eq!(failure(&find), ("TooBig", vec![], "petiole.exceptions"));
}

#[tokio::test]
async fn a_trap_is_a_failure_with_the_guests_stack() {
    let module = HOST.guest().await;
    let outcome = call(&module, "crash", json!([])).await;
    assert_eq!(
        failure(&outcome),
        own("WasmTrap", "wasm `unreachable` instruction executed")
    );
    let Outcome::Failure {
        traceback: Some(traceback),
        ..
    } = outcome
    else {
        panic!("no traceback")
    };
    assert!(traceback.contains("crash"), "{traceback}");

    let outcome = call(&module, "recurse", json!([])).await;
    assert_eq!(
        failure(&outcome),
        own("StackOverflow", "call stack exhausted")
    );
    let outcome = call(&module, "exit", json!([])).await;
    assert_eq!(failure(&outcome), own("GuestExit", 1));
    let outcome = call(&module, "garble", json!([])).await;
    assert_eq!(failure(&outcome).0, "WasmTrap");
}

#[tokio::test]
async fn time_limits_end_guests_that_compute_and_guests_that_wait() {
    let module = HOST.guest().await;
    let limits = Limits {
        time: Duration::from_millis(50),
        ..LIMITS
    };
    for (task, args) in [
        ("spin", json!([])),
        ("sleep", json!([3_600_000_000_000_u64])),
    ] {
        let outcome = call_with(&module, task, args, limits).await.outcome;
        let expected = (
            "TimeLimitExceeded",
            vec![json!(0.05)],
            "billiard.exceptions",
        );
        assert_eq!(failure(&outcome), expected, "{task}");
    }
    assert_eq!(
        call(&module, "sleep", json!([1])).await,
        Outcome::Success(json!(null))
    );
    let limits = Limits {
        time: Duration::from_secs(1),
        ..LIMITS
    };
    let outcome = call_with(&module, "spin", json!([]), limits).await.outcome;
    assert_eq!(failure(&outcome).1, vec![json!(1)]);
}

/// On one thread, a guest that never ends does not keep another from running.
#[tokio::test(flavor = "current_thread")]
async fn guests_take_turns() {
    let module = HOST.guest().await;
    tokio::select! {
        biased;
        run = call(&module, "spin", json!([])) => panic!("{run:?}"),
        sum = call(&module, "add", json!([1, 2])) => assert_eq!(sum, Outcome::Success(json!(3))),
    }
}

#[tokio::test]
async fn memory_is_bounded_and_counted() {
    let module = HOST.guest().await;
    let outcome = call(&module, "grow", json!([64])).await;
    let message = "memory limit of 4 MiB exceeded: the task asked for 4160 KiB";
    assert_eq!(failure(&outcome), own("MemoryLimitExceeded", message));

    let run = call_with(&module, "grow", json!([63]), LIMITS).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    assert_eq!(run.usage.peak_memory, 4 * MIB);
    // a guest that can do without gets its -1
    assert_eq!(
        call(&module, "try_grow", json!([64])).await,
        Outcome::Success(json!(false))
    );
    assert_eq!(
        call(&module, "try_grow", json!([63])).await,
        Outcome::Success(json!(true))
    );

    let outcome = call(&module, "grow_table", json!([2_000_000])).await;
    let message = "table limit of 400000 elements exceeded: the task asked for 2000001";
    assert_eq!(failure(&outcome), own("MemoryLimitExceeded", message));

    let limits = Limits {
        memory: MIB / 32,
        ..LIMITS
    };
    let outcome = call_with(&module, "add", json!([1, 2]), limits)
        .await
        .outcome;
    let message = "memory limit of 32 KiB exceeded: the task asked for 64 KiB";
    assert_eq!(failure(&outcome), own("MemoryLimitExceeded", message));
}

#[tokio::test]
async fn results_are_bounded() {
    let module = HOST.guest().await;
    // a byte of 0 is six of JSON; two more are the quotes
    let outcome = call(&module, "fill", json!([10_922])).await;
    assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
    let outcome = call(&module, "fill", json!([10_923])).await;
    assert_eq!(
        failure(&outcome),
        own(
            "ResultTooLarge",
            "the result is 65540 bytes of JSON: the limit is 65536"
        )
    );
    let outcome = call(&module, "fill_bytes", json!([60_000])).await;
    assert_eq!(failure(&outcome).0, "ResultTooLarge");
    let limits = Limits {
        result: 16,
        ..LIMITS
    };
    let outcome = call_with(
        &module,
        "fail",
        json!(["a message that is too long"]),
        limits,
    )
    .await
    .outcome;
    assert_eq!(failure(&outcome).0, "ResultTooLarge");
}

#[tokio::test]
async fn children_get_their_own_ids_and_are_bounded() {
    let module = HOST.guest().await;
    let run = call_with(
        &module,
        "send",
        json!(["shop.order", "[1]", r#"{"queue":"q"}"#]),
        LIMITS,
    )
    .await;
    let id = child_id("3f1b", 1, ChildKind::Sent, 0);
    assert_eq!(run.outcome, Outcome::Success(json!(id)));
    let [sent] = run.sent.as_slice() else {
        panic!("{:?}", run.sent)
    };
    assert_eq!(
        (sent.task.as_str(), &sent.args, sent.immutable),
        ("shop.order", &vec![json!(1)], true)
    );
    assert_eq!(
        Value::Object(sent.options.clone()),
        json!({"queue": "q", "task_id": id})
    );

    let run = call_with(
        &module,
        "send",
        json!(["t", "[]", r#"{"task_id":"mine"}"#]),
        LIMITS,
    )
    .await;
    assert_eq!(run.outcome, Outcome::Success(json!("mine")));

    let none = Limits {
        children: 0,
        ..LIMITS
    };
    for (args, limits, message) in [
        (
            json!(["t", "[]", "{}"]),
            none,
            "a task may send 0 others at most",
        ),
        (json!(["t", "{}", "{}"]), LIMITS, "args is not a JSON array"),
        (
            json!(["t", "[]", "[]"]),
            LIMITS,
            "options is not a JSON object",
        ),
        (
            json!(["", "[]", "{}"]),
            LIMITS,
            "the signature names no task",
        ),
        (
            json!(["t", "[]", r#"{"task_id":1}"#]),
            LIMITS,
            "option task_id is not a string",
        ),
    ] {
        let run = call_with(&module, "send", args, limits).await;
        assert_eq!(failure(&run.outcome), own("TaskError", message));
        assert!(run.sent.is_empty());
    }
}

#[tokio::test]
async fn progress_is_seen_while_it_lasts() {
    let module = HOST.guest().await;
    let task = module.task("report").unwrap();
    let (progress, seen) = watch::channel(None);
    let arguments = task
        .bind(&[json!("PROGRESS"), json!(r#"{"done": 3}"#)], &Map::new())
        .unwrap();
    let run = task
        .call(arguments, context(), LIMITS, &progress)
        .await
        .unwrap();
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    let expected = Progress {
        state: State::Custom("PROGRESS".to_owned()),
        meta: json!({"done": 3}),
    };
    assert_eq!(*seen.borrow(), Some(expected));
    for (state, meta) in [
        ("SUCCESS", "1"),
        ("PROGRESS", "{"),
        ("half way", "1"),
        ("", "1"),
    ] {
        let outcome = call(&module, "report", json!([state, meta])).await;
        assert_eq!(failure(&outcome).0, "TaskError", "{state} {meta}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_task_says_is_logged_with_its_id() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let module = HOST.guest().await;
    let _guard = tracing::subscriber::set_default(subscriber);
    call(&module, "say", json!(["one\u{7}two"])).await;
    call(&module, "say", json!(["sixteen bytes ok|dropped"])).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains(r#"WARN petiole::task: one\u{7}two task_id="3f1b""#),
        "{text}"
    );
    assert!(
        text.contains("sixteen bytes ok ") && text.contains("dropped=8"),
        "{text}"
    );
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

#[tokio::test]
async fn an_exhausted_pool_is_a_host_fault() {
    let host = host(1);
    let module = host.guest().await;
    let progress = watch::Sender::new(None);
    let add = module.task("add").unwrap();
    let add = add.call(
        add.bind(&[json!(1), json!(2)], &Map::new()).unwrap(),
        context(),
        LIMITS,
        &progress,
    );
    tokio::select! {
        biased;
        run = call(&module, "spin", json!([])) => panic!("{run:?}"),
        run = add => assert!(matches!(run, Err(HostFault::PoolExhausted { .. })), "{run:?}"),
    }
    // the spinning call was dropped: its slot is free again
    assert_eq!(
        call(&module, "count", json!([])).await,
        Outcome::Success(json!(1))
    );
}

#[tokio::test]
async fn signatures_are_reflected() {
    let module = HOST.guest().await;
    let signature = |task: &str| module.task(task).unwrap().signature();
    assert_eq!(
        signature("add").to_string(),
        "my_app.tasks.add(x: s64, y: s64) -> s64"
    );
    assert_eq!(
        signature("maybe").to_string(),
        "my_app.tasks.maybe(a: u32, b_c: option<u32>) -> u32"
    );
    assert_eq!(
        signature("fail").to_string(),
        "my_app.tasks.fail(text: string) -> result<_, string>"
    );
    assert_eq!(
        signature("find").to_string(),
        "my_app.tasks.find(case: u32) -> result<u32, enum { not_found, too_big }>"
    );
    assert_eq!(signature("crash").to_string(), "my_app.tasks.crash()");
    assert_eq!(
        serde_json::to_value(signature("add")).unwrap(),
        json!({
            "name": "my_app.tasks.add",
            "function": "add",
            "params": [
                {"name": "x", "type": "s64", "optional": false},
                {"name": "y", "type": "s64", "optional": false},
            ],
            "result": "s64",
            "error": null,
            "docs": "Adds two numbers.",
        })
    );
    assert_eq!(signature("my_id").docs, "Its own id.");
    let names: Vec<_> = module
        .tasks()
        .map(|task| task.signature().function.as_str())
        .collect();
    assert!(names.is_sorted() && names.len() == 22, "{names:?}");
    assert!(module.task("my-id").is_none() && module.task("nothing").is_none());
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

#[tokio::test]
async fn exports_are_sorted_into_tasks_and_others() {
    let wasm = component(
        r#"(export "run-it" (func $f))
        (export "twice" (func $f))
        (type $r (resource (rep i32)))
        (export $thing "thing" (type $r))
        (func (export "make") (result (own $thing)) (canon lift (core func $i "one")))
        (instance $inner (export "in-it" (func $f)) (export "twice" (func $f)))
        (export "demo:calc/ops@1.0.0" (instance $inner))
        (core module $n (memory (export "memory") 1)
            (func (export "init") (param i32 i32 i32 i32))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $n (instantiate $n))
        (func (export "init") (param "shim" string) (param "script" string)
            (canon lift (core func $n "init") (memory $n "memory") (realloc (func $n "realloc"))))
        (instance $py (export "hidden" (func $f)))
        (export "exports" (instance $py))
        (instance $run (export "run" (func $f)))
        (export "wasi:cli/run@0.2.0" (instance $run))"#,
    );
    let module = HOST.load(&wasm).await.unwrap();
    let names: Vec<_> = module
        .tasks()
        .map(|task| task.signature().name.as_str())
        .collect();
    assert_eq!(names, ["my_app.tasks.in_it", "my_app.tasks.run_it"]);
    let mut refused: Vec<_> = module.refused().iter().map(ToString::to_string).collect();
    refused.sort();
    assert_eq!(
        refused,
        [
            "demo:calc/ops@1.0.0#twice: twice would be the same task: rename one",
            "make: the result: a resource handle has no form in JSON",
            "twice: demo:calc/ops@1.0.0#twice would be the same task: rename one",
        ]
    );
    assert_eq!(
        call(&module, "in_it", json!([])).await,
        Outcome::Success(json!(null))
    );
}

#[tokio::test]
async fn what_cant_run_is_refused_with_the_whole_list() {
    let imports = component(
        r#"(import "wasi:http/types@0.2.0" (instance (export "f" (func))))
        (import "acme:db/sql" (instance (export "f" (func))))
        (import "lonely" (func))
        (import "wasi:cli/stdin@0.3.0" (instance (export "f" (func))))
        (export "run-it" (func $f))"#,
    );
    let error = HOST.load(&imports).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component imports what is not granted to it:\n  wasi:http/types@0.2.0\n  acme:db/sql\n  lonely\n  wasi:cli/stdin@0.3.0"
    );

    let shape = component(
        r#"(import "petiole:task/context@0.1.0" (instance (export "no-such" (func)))) (export "r" (func $f))"#,
    );
    let error = HOST.load(&shape).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Incompatible { reason } if reason.contains("no-such")),
        "{error}"
    );

    let twice = component(
        r#"(instance $inner (export "twice" (func $f)))
        (export "demo:calc/ops@1.0.0" (instance $inner)) (export "twice" (func $f))"#,
    );
    let error = HOST.load(&twice).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::NoTasks { refused } if refused.len() == 2),
        "{error}"
    );
    let error = HOST.load(&component("")).await.unwrap_err();
    assert!(matches!(error, LoadError::NoTasks { .. }), "{error}");

    let huge =
        r#"(core module $b (memory 200)) (core instance (instantiate $b)) (export "r" (func $f))"#;
    let error = HOST.load(&component(huge)).await.unwrap_err();
    assert!(matches!(error, LoadError::Incompatible { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let error = HOST.load(b"PK\x03\x04").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST.load(b"(component)").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST.load(b"").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST
        .load(&wat::parse_str("(module)").unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("wasm-tools component new"),
        "{error}"
    );
    let mut cut = guest();
    cut.truncate(1000);
    let error = HOST.load(&cut).await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::Invalid { .. })),
        "{error}"
    );
}

/// Each level of the type is twice the one before.
#[tokio::test]
async fn exponential_types_are_refused() {
    let mut types = String::from("(type $t0 (tuple u32 u32))");
    for level in 1..=16 {
        types += &format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1);
    }
    let body = format!(
        r#"{types} (core module $n (memory (export "memory") 1) (func (export "f") (param i32))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $n (instantiate $n))
        (func (export "big") (param "x" (option $t16)) (canon lift (core func $n "f")
            (memory $n "memory") (realloc (func $n "realloc"))))
        (export "small" (func $f))"#
    );
    let module = HOST.load(&component(&body)).await.unwrap();
    let [refused] = module.refused() else {
        panic!("{:?}", module.refused())
    };
    assert!(
        refused.name == "big" && refused.reason.contains("larger than 262144"),
        "{refused}"
    );
}

#[tokio::test]
async fn damaged_code_is_compiled_again() {
    let host = host(1);
    host.guest().await;
    let files = |name: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(host.dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().path().join(name))
            .filter(|path| path.exists())
            .collect()
    };
    for name in ["code", "mac"] {
        let [file] = files(name).try_into().unwrap();
        let before = std::fs::read(&file).unwrap();
        for damage in [Vec::new(), {
            let mut bytes = before.clone();
            bytes[0] ^= 1;
            bytes
        }] {
            std::fs::write(&file, damage).unwrap();
            let module = host.guest().await;
            assert_eq!(
                call(&module, "add", json!([1, 2])).await,
                Outcome::Success(json!(3))
            );
        }
        std::fs::remove_file(&file).unwrap();
        host.guest().await;
        assert_eq!(files(name).len(), 1);
    }
    // a cache with another key does not take over its entries
    std::fs::remove_file(host.dir.path().join("key")).unwrap();
    let other = Cache::open(host.dir.path()).unwrap();
    let compiler = Compiler::child(PathBuf::from("/nonexistent"), COMPILE_LIMITS);
    let error = host
        .runtime
        .load("m", &guest(), &other, &compiler)
        .await
        .unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::Host(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_cached_component_needs_no_compiler() {
    let host = host(1);
    host.guest().await;
    let compiler = Compiler::child(PathBuf::from("/nonexistent"), COMPILE_LIMITS);
    let again = Cache::open(host.dir.path()).unwrap();
    let module = host
        .runtime
        .load("m", &guest(), &again, &compiler)
        .await
        .unwrap();
    assert_eq!(module.task("add").unwrap().signature().name, "m.add");
}

#[test]
fn a_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = private_dir();
    let path = dir.path().join("new");
    Cache::open(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        std::fs::metadata(path.join("key"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(
        Cache::open(&path),
        Err(CacheError::NotPrivate { mode: 0o750, .. })
    ));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(path.join("key"), "short").unwrap();
    assert!(matches!(Cache::open(&path), Err(CacheError::Key { .. })));
}

const COMPILE_LIMITS: CompileLimits = CompileLimits {
    time: Duration::from_secs(60),
    memory: 1 << 30,
};

/// Stands in for the compiler: a shell script, with INPUT and OUTPUT in `$2` and `$3`.
fn script(dir: &TempDir, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.path().join("compiler.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn a_compiler_that_fails_says_how() {
    let host = host(1);
    let scripts = private_dir();
    let load = async |text: &str, limits: CompileLimits| {
        let compiler = Compiler::child(script(&scripts, text), limits);
        match host
            .runtime
            .load("m", &guest(), &host.cache, &compiler)
            .await
            .unwrap_err()
        {
            LoadError::Compile(error) => error,
            other => panic!("{other}"),
        }
    };
    let error = load("echo 'type mismatch' >&2; exit 65", COMPILE_LIMITS).await;
    assert!(
        matches!(&error, CompileError::Invalid { reason } if reason.trim() == "type mismatch"),
        "{error}"
    );
    let error = load("kill -9 $$", COMPILE_LIMITS).await;
    assert!(matches!(&error, CompileError::Crashed { .. }), "{error}");
    let short = CompileLimits {
        time: Duration::from_millis(50),
        ..COMPILE_LIMITS
    };
    let error = load("exec /bin/sleep 3600", short).await;
    assert!(matches!(&error, CompileError::TooSlow { .. }), "{error}");
    let error = load(
        "test -z \"$HOME$CARGO_MANIFEST_DIR\" || exit 3; echo \"$1 $5\" >&2; exit 71",
        COMPILE_LIMITS,
    )
    .await;
    assert!(
        error.to_string().contains("compile-component 1073741824"),
        "{error}"
    );
}

/// Printed, not asserted: the figures depend on the machine.
#[tokio::test]
async fn the_cost_of_a_call() {
    const CALLS: usize = 2_000;
    let module = HOST.guest().await;
    let task = module.task("add").unwrap();
    let arguments = task.bind(&[json!(1), json!(2)], &Map::new()).unwrap();
    let progress = watch::Sender::new(None);
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let (arguments, context) = (arguments.clone(), context());
        let started = Instant::now();
        task.call(arguments, context, LIMITS, &progress)
            .await
            .unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!(
        "store + instance + call + drop: median {:?}, p99 {:?}",
        times[CALLS / 2],
        times[CALLS * 99 / 100]
    );
}
