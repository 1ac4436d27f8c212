//! The real binary, from outside: no RabbitMQ, no Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "cli/grants.rs"]
mod grants;
#[path = "cli/uploads.rs"]
mod uploads;

/// Time that anything may take to come about.
const DEADLINE: Duration = Duration::from_secs(120);

/// A folder to work in, with components in it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (source, file) in [
        ("guest.wat", "my-app.wasm"),
        ("capable.wat", "capable.wasm"),
    ] {
        let component = wat::parse_file(sources.join(source)).unwrap();
        fs::write(dir.path().join(file), component).unwrap();
    }
    dir
}

/// The binary in that folder, without this process' settings.
fn petiole(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petiole"));
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("PETIOLE_") || name.starts_with("CELERY_"))
        {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(dir)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("RUST_BACKTRACE", "0");
    command
}

fn output(dir: &Path, args: &[&str]) -> Output {
    petiole(dir, args).stdin(Stdio::null()).output().unwrap()
}

/// Stdout of a command that has to succeed.
fn ok(dir: &Path, args: &[&str]) -> String {
    let output = output(dir, args);
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Stderr of a command that has to end with this exit code.
fn fails(dir: &Path, code: i32, args: &[&str]) -> String {
    let output = output(dir, args);
    let stderr = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}{stderr}",
        text(&output.stdout)
    );
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn errors_say_what_to_do_next() {
    let dir = folder();
    let dir = dir.path();
    fs::write(dir.join("core.wasm"), wat::parse_str("(module)").unwrap()).unwrap();
    fs::write(dir.join("notes.txt"), "not wasm").unwrap();
    fs::write(dir.join("empty.wasm"), "").unwrap();
    fs::write(dir.join("cut.wasm"), b"\0asm\x0d\0\x01\0\x01").unwrap();
    fs::write(
        dir.join("unknown.toml"),
        "broker = 'amqp://localhost'\nbrokr = 'x'\n",
    )
    .unwrap();
    fs::write(dir.join("type.toml"), "\nconcurrency = 'many'\n").unwrap();
    fs::write(
        dir.join("bad-manifest.toml"),
        "[tasks.ad]\ntime_limit = 1\n",
    )
    .unwrap();
    fs::write(dir.join("foreign.toml"), "\"\\u001b[2J\" = 1\n").unwrap();
    let store = format!("file://{}", dir.join("store").display());
    let store = store.as_str();
    let cases: &[(&[&str], i32, &[&str])] = &[
        // the command line
        (&[], 2, &["Usage: petiole"]),
        (&["wroker"], 2, &["wroker", "worker"]),
        (
            &["worker", "--conurrency", "4"],
            2,
            &["--conurrency", "--concurrency"],
        ),
        (&["worker", "-c", "0"], 2, &["0", "--concurrency"]),
        (&["worker", "-c", "many"], 2, &["many"]),
        (&["worker", "-l", "loud"], 2, &["loud", "warning"]),
        (
            &["worker", "--time-limit", "5m"],
            2,
            &["5m", "number of seconds"],
        ),
        (
            &["worker", "--memory-limit", "12XB"],
            2,
            &["12XB", "256MiB"],
        ),
        (
            &["worker", "--memory-limit", "2GiB"],
            2,
            &["flag --memory-limit", "2GiB", "max_limits.memory 1GiB"],
        ),
        (&["worker", "--http", "8000"], 2, &["8000"]),
        (
            &["worker", "--route", "shop.*"],
            2,
            &["flag --route", "GLOB=QUEUE"],
        ),
        (
            &["worker", "-b", "localhost"],
            2,
            &["flag --broker", "\"localhost\"", "amqp://"],
        ),
        (
            &["worker", "-b", "redis://localhost"],
            2,
            &["flag --broker", "amqp, pyamqp, librabbitmq, amqps, sqlite"],
        ),
        (
            &["worker", "--results", "amqp://u:hush@h"],
            2,
            &["flag --results", "u:***@h", "redis://"],
        ),
        (
            &["worker", "--store", "s3://bucket"],
            2,
            &["flag --store", "file://DIR"],
        ),
        (
            &["worker", "-b", "sqlite://b.db", "--http", "0.0.0.0:0"],
            2,
            &["PETIOLE_TOKEN", "127.0.0.1"],
        ),
        // broker and results out of reach: port 1 answers nobody
        (
            &["send", "a.b", "-b", "amqp://guest:hush@127.0.0.1:1//"],
            3,
            &["can't reach the broker", "127.0.0.1", "flag --broker"],
        ),
        (&["result", "some-id"], 2, &["--results"]),
        // configuration
        (
            &[
                "config",
                "check",
                "-b",
                "amqps://u:hush@h?ssl_ca_certs=/no/such.pem",
            ],
            2,
            &["flag --broker", "/no/such.pem", "No such file"],
        ),
        (
            &[
                "config",
                "check",
                "--results",
                "rediss://:hush@h?ssl_certfile=/no/such.pem",
            ],
            2,
            &["flag --results", "/no/such.pem", "No such file"],
        ),
        (
            &["config", "check", "--config", "missing.toml"],
            2,
            &["missing.toml", "No such file"],
        ),
        (
            &["config", "check", "--config", "unknown.toml"],
            2,
            &["unknown.toml", "line 2", "brokr"],
        ),
        (
            &["config", "check", "--config", "type.toml"],
            2,
            &["type.toml", "line 2", "concurrency"],
        ),
        // files
        (
            &["push", "missing.wasm", "--name", "a.b", "--store", store],
            2,
            &["missing.wasm", "No such file"],
        ),
        (
            &["push", "notes.txt", "--name", "a.b", "--store", store],
            2,
            &["notes.txt", "not a WebAssembly component", "wasm32-wasip2"],
        ),
        (
            &["push", "empty.wasm", "--name", "a.b", "--store", store],
            2,
            &["not a WebAssembly component"],
        ),
        (
            &["push", "core.wasm", "--name", "a.b", "--store", store],
            2,
            &["core WebAssembly module", "wasm-tools component new"],
        ),
        // text that others wrote does not drive the terminal
        (
            &["run", "my-app.wasm", "add", "--manifest", "foreign.toml"],
            2,
            &["unknown field", "\\u{1b}[2J"],
        ),
        (
            &["push", "cut.wasm", "--name", "a.b", "--store", store],
            2,
            &["error: "],
        ),
        (&["run", "core.wasm", "f"], 2, &["wasm-tools component new"]),
        (&["dev", "core.wasm"], 2, &["wasm-tools component new"]),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "not a name",
                "--store",
                store,
            ],
            2,
            &["not a name"],
        ),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "a.b",
                "--store",
                store,
                "--manifest",
                "missing.toml",
            ],
            2,
            &["manifest", "missing.toml"],
        ),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "a.b",
                "--store",
                store,
                "--manifest",
                "bad-manifest.toml",
            ],
            2,
            &["settings for \"ad\"", "add"],
        ),
        // where to
        (
            &["push", "my-app.wasm", "--name", "a.b"],
            2,
            &["petiole dev", "--to", "--store"],
        ),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "a.b",
                "--to",
                "http://127.0.0.1:1",
            ],
            3,
            &["http://127.0.0.1:1", "is it running"],
        ),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "a.b",
                "--to",
                "127.0.0.1:8000",
            ],
            2,
            &["flag --to"],
        ),
        (
            &[
                "tasks",
                "--to",
                "HTTPS://127.0.0.1:1",
                "--ca",
                "missing.pem",
            ],
            2,
            &["missing.pem", "No such file"],
        ),
        (
            &[
                "push",
                "my-app.wasm",
                "--name",
                "a.b",
                "--to",
                "http://h",
                "--store",
                store,
            ],
            2,
            &["cannot be used with"],
        ),
        (
            &["tasks", "--to", "http://user:hush@127.0.0.1:1"],
            2,
            &["flag --to", "127.0.0.1", "PETIOLE_TOKEN"],
        ),
        (
            &["tasks", "http://user:hush@host", "--store", store],
            2,
            &["http://user:***@host"],
        ),
        (
            &["worker", "--http", "http://user:hush@host"],
            2,
            &["http://user:***@host", "127.0.0.1:8000"],
        ),
        (
            &["send", "a.b", "--brokr", "amqp://u:hush@h"],
            2,
            &["--brokr", "--broker"],
        ),
        (
            &["modules", "show", "nobody", "--store", store],
            2,
            &["nobody"],
        ),
        (
            &["tasks", "no.such", "--store", store],
            2,
            &["no.such", "petiole tasks"],
        ),
        // calls
        (
            &["send", "a.b", "--args", "[1,"],
            2,
            &["--args", "[1,", "JSON array"],
        ),
        (
            &["send", "a.b", "--args", "{}"],
            2,
            &["--args", "JSON array"],
        ),
        (
            &["send", "a.b", "--kwargs", "[]"],
            2,
            &["--kwargs", "JSON object"],
        ),
        (
            &[
                "send",
                "a.b",
                "--countdown",
                "1",
                "--eta",
                "2026-11-22T15:00:00Z",
            ],
            2,
            &["cannot be used with"],
        ),
        (
            &["send", "a.b", "--eta", "tomorrow"],
            2,
            &["tomorrow", "2026-11-22T15:00:00Z"],
        ),
        (
            &["push", "a.wasm", "--name", "a", "--wait", "soon"],
            2,
            &["soon", "from 0 to 120"],
        ),
        (&["send", "a.b", "--timeout", "5"], 2, &["--wait"]),
        (
            &["send", "a.b", "--wait", "-b", "sqlite://b.db"],
            2,
            &["--results"],
        ),
        (
            &[
                "send",
                "a.b",
                "--wait",
                "-b",
                "sqlite://b.db",
                "--results",
                "rpc://",
            ],
            2,
            &["rpc://", "--wait"],
        ),
        (
            &["run", "my-app.wasm", "add", "--args", "nonsense"],
            2,
            &["--args", "JSON array"],
        ),
        (
            &["run", "my-app.wasm", "subtract"],
            2,
            &["subtract", "add(x: s64, y: s64) -> s64"],
        ),
        (
            &["run", "my-app.wasm", "add", "--args", "[1, \"two\"]"],
            2,
            &["my_app.tasks.add", "y", "s64", "two"],
        ),
        (
            &["run", "my-app.wasm", "add", "--args", "[1]"],
            2,
            &["my_app.tasks.add", "y"],
        ),
        (
            &["run", "my-app.wasm", "add", "--manifest", "missing.toml"],
            2,
            &["manifest", "missing.toml"],
        ),
        (
            &[
                "run",
                "my-app.wasm",
                "add",
                "--manifest",
                "bad-manifest.toml",
            ],
            2,
            &["settings for \"ad\"", "add"],
        ),
        (
            &["run", "my-app.wasm", "add", "--name", "not a name"],
            2,
            &["not a name"],
        ),
    ];
    for (args, code, said) in cases {
        let stderr = fails(dir, *code, args);
        for part in *said {
            assert!(
                stderr.contains(part),
                "{args:?} does not say {part:?}: {stderr}"
            );
        }
        assert!(!stderr.contains("hush"), "{args:?}: {stderr}");
    }
}

/// Faults that need no servers to be found: `config check` reports them as a worker does.
#[test]
fn config_check_and_a_worker_say_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let dir = dir.path();
    fs::write(dir.join("file"), "hush").unwrap();
    fs::create_dir(dir.join("open")).unwrap();
    fs::set_permissions(dir.join("open"), fs::Permissions::from_mode(0o755)).unwrap();
    let open = "[http]\naddr = '0.0.0.0:0'";
    let token = "token = '0123456789abcdef'";
    for (settings, code, said) in [
        (open.to_owned(), 2, "has no token"),
        (format!("{open}\n{token}"), 2, "is not encrypted"),
        (
            format!("{open}\n{token}\ntls = {{ cert = 'no.pem', key = 'no.pem' }}"),
            2,
            "no.pem",
        ),
        ("signatures.keys = ['no.pub']".to_owned(), 2, "no.pub"),
        (
            "signatures.keys = ['file']".to_owned(),
            2,
            "file\" holds no minisign public key",
        ),
        (
            "audit = 'missing/audit.jsonl'".to_owned(),
            2,
            "missing/audit.jsonl",
        ),
        ("audit = 'open'".to_owned(), 2, "audit file"),
        (
            "secrets = { A = { file = 'missing' } }".to_owned(),
            2,
            "secrets.A",
        ),
        ("folders = { a = 'missing' }".to_owned(), 2, "folders.a"),
        ("results = 'django-db'".to_owned(), 2, "django-db"),
        ("broker = 'redis://h'".to_owned(), 2, "amqp"),
        (
            "results = 'rediss://h?ssl_ca_certs=no.pem'".to_owned(),
            2,
            "no.pem",
        ),
        ("store = 'file://'".to_owned(), 2, "file://DIR"),
        ("store = 'file://file'".to_owned(), 1, "not a folder"),
        ("cache = 'file'".to_owned(), 1, "cache folder file"),
        ("cache = 'open'".to_owned(), 1, "cache folder open"),
    ] {
        let broker = match settings.contains("broker") {
            true => "",
            false => "broker = 'sqlite://b.db'\n",
        };
        fs::write(dir.join("petiole.toml"), format!("{broker}{settings}\n")).unwrap();
        let checked = fails(dir, code, &["config", "check"]);
        let worked = fails(dir, code, &["worker"]);
        assert!(checked.contains(said), "{settings}: {checked}");
        assert_eq!(checked, worked, "{settings}");
        assert!(!checked.contains("hush"), "{settings}: {checked}");
    }
    fs::write(dir.join("petiole.toml"), "audit = 'audit.jsonl'\n").unwrap();
    ok(dir, &["config", "check"]);
    assert!(!dir.join("audit.jsonl").exists() && !dir.join(".petiole").exists());
}

/// Celery's own settings of a Django app are no hindrance where they are not used.
#[test]
fn what_celery_alone_has_concerns_those_who_use_it() {
    let dir = folder();
    let dir = dir.path();
    let with = |args: &[&str]| {
        let output = petiole(dir, args)
            .env("CELERY_BROKER_URL", "sqs://")
            .env("CELERY_RESULT_BACKEND", "django-db")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let store = format!("file://{}", dir.join("store").display());
    let store = store.as_str();
    for args in [
        &["push", "my-app.wasm", "--name", "a.b", "--store", store][..],
        &["tasks", "--store", store],
        &["modules", "list", "--store", store],
        &["run", "my-app.wasm", "add", "--args", "[1, 2]"],
        &["send", "a.b.add", "-b", "sqlite://b.db", "-Q", "kept"],
        &[
            "quarantine",
            "list",
            "-b",
            "sqlite://b.db",
            "--quarantine-queue",
            "kept",
        ],
    ] {
        let (code, stderr) = with(args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
    }
    for args in [
        &["worker", "-b", "sqlite://b.db"][..],
        &["config", "check", "-b", "sqlite://b.db"],
        &["result", "some-id"],
        &["send", "a.b.add", "-b", "sqlite://b.db", "--wait"],
    ] {
        let (code, stderr) = with(args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        for part in [
            "CELERY_RESULT_BACKEND",
            "django-db",
            "redis://",
            "PETIOLE_RESULT_BACKEND",
            "--results",
        ] {
            assert!(stderr.contains(part), "{args:?}: no {part}: {stderr}");
        }
    }
    let (code, stderr) = with(&["send", "a.b.add"]);
    assert!(
        code == 2 && stderr.contains("PETIOLE_BROKER_URL"),
        "{stderr}"
    );
}

#[test]
fn a_quarantine_that_is_not_there_is_told() {
    let dir = folder();
    let dir = dir.path();
    ok(dir, &["send", "a.b", "-b", "sqlite://b.db"]);
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["show", "some-id"],
        &["retry", "--all"],
        &["drop", "--all"],
        &["drop", "some-id"],
    ] {
        let args = [&["quarantine", "-b", "sqlite://b.db"], args].concat();
        let stderr = fails(dir, 2, &args);
        assert!(
            stderr.contains("no queue \"petiole.quarantine\"")
                && stderr.contains("--quarantine-queue"),
            "{stderr}"
        );
    }
    // One that is there and empty, once its message is gone.
    ok(dir, &["send", "a.b", "-b", "sqlite://b.db", "-Q", "kept"]);
    let empty = [
        "quarantine",
        "-b",
        "sqlite://b.db",
        "--quarantine-queue",
        "kept",
    ];
    for (args, code) in [
        (&["drop", "--all"][..], 0),
        (&["list"], 0),
        (&["show", "some-id"], 2),
        (&["retry", "some-id"], 2),
    ] {
        let args = [&empty[..], args].concat();
        let output = output(dir, &args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn run_calls_a_function_without_a_broker() {
    let dir = folder();
    let dir = dir.path();
    let listed = ok(dir, &["run", "my-app.wasm"]);
    assert!(listed.contains("add(x: s64, y: s64) -> s64"), "{listed}");
    assert!(
        listed.contains("halve_it(n: s64) -> result<s64, string>"),
        "{listed}"
    );
    assert_eq!(
        ok(dir, &["run", "my-app.wasm", "add", "--args", "[1, 2]"]),
        "3\n"
    );
    assert_eq!(
        ok(
            dir,
            &[
                "run",
                "my-app.wasm",
                "add",
                "--args",
                "[1]",
                "--kwargs",
                "{\"y\": 41}"
            ]
        ),
        "42\n"
    );
    for name in ["halve-it", "halve_it"] {
        assert_eq!(
            ok(dir, &["run", "my-app.wasm", name, "--args", "[10]"]),
            "5\n"
        );
    }
    let failed = fails(dir, 1, &["run", "my-app.wasm", "halve_it", "--args", "[3]"]);
    assert!(
        failed.contains("FAILURE") && failed.contains("n is odd"),
        "{failed}"
    );
    let ended = fails(
        dir,
        1,
        &["run", "my-app.wasm", "spin", "--time-limit", "0.2"],
    );
    assert!(ended.contains("TimeLimitExceeded"), "{ended}");
}

#[test]
fn config_check_warns_of_a_budget_that_the_machine_does_not_have() {
    let dir = folder();
    let warned = |budget: &str| {
        let mut command = petiole(dir.path(), &["config", "check"]);
        let output = command.env("PETIOLE_MEMORY_BUDGET", budget).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let warning = warned("1000000GiB");
    assert!(
        warning.starts_with(
            "warning: env PETIOLE_MEMORY_BUDGET: memory_budget 1000000GiB is more than"
        ),
        "{warning}"
    );
    assert_eq!(warned("50%"), "");
}

#[test]
fn config_check_shows_values_and_where_they_come_from() {
    let dir = folder();
    let dir = dir.path();
    fs::write(
        dir.join("petiole.toml"),
        "broker = 'amqp://me:file-secret@rabbit//'\nconcurrency = 7\n[http]\ntoken = 'token-secret-0123456789'\n[routes]\n'shop.*' = 'python'\n",
    )
    .unwrap();
    let output = petiole(dir, &["config", "check", "-c", "9", "--route", "a.*=b"])
        .env("CELERY_RESULT_BACKEND", "redis://:env-secret@redis/0")
        .env("CELERY_BROKER_URL", "amqp://celery//")
        .env("PETIOLE_LOGLEVEL", "debug")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = |key: &str| {
        let line = shown
            .lines()
            .find(|line| line.split(" = ").next() == Some(key));
        line.unwrap_or_else(|| panic!("no {key} in {shown}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        line("broker"),
        "broker = \"amqp://celery//\" # env CELERY_BROKER_URL"
    );
    assert_eq!(
        line("results"),
        "results = \"redis://:***@redis/0\" # env CELERY_RESULT_BACKEND"
    );
    assert_eq!(
        line("loglevel"),
        "loglevel = \"debug\" # env PETIOLE_LOGLEVEL"
    );
    assert_eq!(line("concurrency"), "concurrency = 9 # flag --concurrency");
    assert_eq!(
        line("default_queue"),
        "default_queue = \"celery\" # default"
    );
    let token = shown
        .lines()
        .find(|line| line.starts_with("# token is set: ***"));
    assert!(
        token
            .unwrap_or_else(|| panic!("no token in {shown}"))
            .ends_with("# petiole.toml")
    );
    assert_eq!(line("\"a.*\""), "\"a.*\" = \"b\" # flag --route");
    assert_eq!(line("\"shop.*\""), "\"shop.*\" = \"python\" # petiole.toml");
    assert!(!shown.contains("secret"), "{shown}");
    // The output can be used as a file again.
    fs::write(dir.join("again.toml"), &shown).unwrap();
    ok(dir, &["config", "check", "--config", "again.toml"]);
}

#[test]
fn nothing_is_compiled_that_is_not_new() {
    let dir = folder();
    let dir = dir.path();
    // Each with a cache of its own, which shows what it compiles.
    let on_store = |cache: &str, args: &[&str]| {
        let mut command = petiole(dir, args);
        command.args(["--store", "file://store"]);
        let output = command.env("PETIOLE_CACHE", dir.join(cache)).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let entries = fs::read_dir(dir.join(cache)).into_iter().flatten();
        let compiled = entries.filter(|entry| entry.as_ref().unwrap().path().is_dir());
        (compiled.count(), text(&output.stdout))
    };
    let push = ["push", "my-app.wasm", "--name", "my_app.tasks"];
    assert_eq!(on_store("first", &push).0, 1);
    let other =
        "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
        (func (export \"run\") (canon lift (core func $i \"f\"))))";
    fs::write(dir.join("other.wasm"), wat::parse_str(other).unwrap()).unwrap();
    let push = ["push", "other.wasm", "--name", "other.tasks"];
    assert_eq!(on_store("second", &push).0, 1, "not what is there already");
    let (compiled, tasks) = on_store("third", &["tasks"]);
    assert_eq!(compiled, 0);
    assert!(!dir.join("third").exists(), "there is no need for a cache");
    for task in [
        "my_app.tasks.add(x: s64, y: s64) -> s64",
        "other.tasks.run()",
    ] {
        assert!(tasks.contains(task), "{tasks}");
    }
}

#[test]
fn modules_in_a_store_without_a_worker() {
    let dir = folder();
    let dir = dir.path();
    let store = format!("file://{}", dir.join("store").display());
    let on_store = |args: &[&str]| {
        [args, &["--store", &store]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |args: &[&str]| {
        let args = on_store(args);
        ok(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let pushed: Value = serde_json::from_str(&run(&[
        "push",
        "my-app.wasm",
        "--name",
        "my_app.tasks",
        "--json",
    ]))
    .unwrap();
    assert_eq!(
        (&pushed["module"], &pushed["version"]),
        (&json!("my_app.tasks"), &json!(1))
    );
    assert_eq!(
        pushed["tasks"][0]["signature"],
        "my_app.tasks.add(x: s64, y: s64) -> s64"
    );

    fs::write(dir.join("manifest.toml"), "[tasks.add]\nname = \"sum\"\n").unwrap();
    let pushed = run(&[
        "push",
        "my-app.wasm",
        "--name",
        "my_app.tasks",
        "--manifest",
        "manifest.toml",
    ]);
    assert!(
        pushed.contains("version 2 is active") && pushed.contains("  sum(x: s64, y: s64) -> s64"),
        "{pushed}"
    );
    let tasks: Value = serde_json::from_str(&run(&["tasks", "--json"])).unwrap();
    let names: Vec<_> = tasks
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["my_app.tasks.halve_it", "my_app.tasks.spin", "sum"]);
    assert_eq!(
        tasks[2]["params"][0],
        json!({ "name": "x", "type": "s64", "optional": false })
    );

    assert!(run(&["modules", "rollback", "my_app.tasks"]).contains("version 1 is active"));
    assert!(run(&["tasks", "my_app.tasks.a*"]).contains("my_app.tasks.add(x: s64, y: s64)"));
    assert!(run(&["modules", "activate", "my_app.tasks", "2"]).contains("version 2 is active"));
    let list = run(&["modules", "list"]);
    assert_eq!(
        list.lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["my_app.tasks", "2", "2", "-"]
    );
    assert!(run(&["modules", "show", "my_app.tasks"]).contains("2*"));

    let active = on_store(&["modules", "remove", "my_app.tasks", "2"]);
    let refused = fails(
        dir,
        2,
        &active.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert!(refused.contains("active"), "{refused}");
    run(&["modules", "remove", "my_app.tasks", "--force"]);
    assert_eq!(run(&["modules", "list", "--json"]), "[]\n");
}

/// A `petiole dev` or `petiole worker` that is ended when the test is.
struct Dev {
    child: Child,
    url: String,
    /// Empty where the session names none.
    token: String,
}

impl Dev {
    fn start(dir: &Path, args: &[&str]) -> Self {
        Self::spawn(dir, petiole(dir, &[&["dev"], args].concat()))
    }

    fn spawn(dir: &Path, mut command: Command) -> Self {
        let log = fs::File::create(dir.join("dev.log")).unwrap();
        let out = log.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .unwrap();
        let mut dev = Self {
            child,
            url: String::new(),
            token: String::new(),
        };
        let session: toml::Table = dev.until(dir, "a session", || {
            toml::from_str(&fs::read_to_string(dir.join(".petiole/session.toml")).ok()?).ok()
        });
        dev.url = session["api"].as_str().unwrap().to_owned();
        if let Some(http) = session.get("http") {
            dev.token = http["token"].as_str().unwrap().to_owned();
        }
        let addr = dev.url.clone();
        dev.until(dir, "readiness", || {
            (get(&addr, "/readyz", "").0 == 200).then_some(())
        });
        dev
    }

    fn until<T>(&mut self, dir: &Path, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = check() {
                return found;
            }
            let log = || fs::read_to_string(dir.join("dev.log")).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("dev ended with {status} before {what}:\n{}", log());
            }
            assert!(Instant::now() < deadline, "no {what}:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&mut self, name: &str) -> Option<i32> {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a GET; status 0 where nobody answers.
fn get(url: &str, path: &str, headers: &str) -> (u16, String) {
    http(
        url,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"),
    )
}

fn http(url: &str, request: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(url.trim_start_matches("http://")) else {
        return (0, String::new());
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

#[test]
fn dev_runs_what_is_pushed_and_sent() {
    let dir = folder();
    let dir = dir.path();
    fs::copy(dir.join("my-app.wasm"), dir.join("late.wasm")).unwrap();
    let mut dev = Dev::start(dir, &["my-app.wasm", "--http", "127.0.0.1:0", "-c", "4"]);
    let log = fs::read_to_string(dir.join("dev.log")).unwrap();
    for part in [
        "celery@",
        "sqlite://.petiole/dev.db",
        "my_app.tasks.add(x: s64, y: s64) -> s64",
        "petiole send",
    ] {
        assert!(log.contains(part), "no {part:?} in the banner: {log}");
    }

    // The session tells the other commands of the folder where to go.
    assert_eq!(
        ok(
            dir,
            &["send", "my_app.tasks.add", "--args", "[1, 2]", "--wait"]
        ),
        "3\n"
    );
    let failed = fails(
        dir,
        1,
        &[
            "send",
            "my_app.tasks.halve_it",
            "--kwargs",
            "{\"n\": 3}",
            "--wait",
        ],
    );
    assert!(failed.contains("n is odd"), "{failed}");
    let refused = fails(
        dir,
        1,
        &[
            "send",
            "my_app.tasks.add",
            "--args",
            "[1, \"two\"]",
            "--wait",
        ],
    );
    assert!(
        refused.contains("my_app.tasks.add") && refused.contains("s64"),
        "{refused}"
    );
    fails(dir, 1, &["send", "no.such.task", "--wait"]);

    // A broker that takes precedence over the session's is announced.
    let send = |broker: Option<&str>| {
        let mut command = petiole(dir, &["send", "no.such.task", "-Q", "nobody's"]);
        let output = command.envs(broker.map(|url| ("CELERY_BROKER_URL", url)));
        let output = output.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert_eq!(
        send(None),
        "broker: sqlite://.petiole/dev.db (from .petiole/session.toml)\n"
    );
    let elsewhere = send(Some("sqlite://other.db"));
    assert!(
        elsewhere.contains("broker: sqlite://other.db (from env CELERY_BROKER_URL)\n")
            && elsewhere.contains("not that of the `petiole dev`"),
        "{elsewhere}"
    );

    // Uploaded while it runs, and the next task finds it.
    let pushed = ok(dir, &["push", "late.wasm", "--name", "late.tasks"]);
    assert!(
        pushed.contains("late.tasks.halve_it(n: s64) -> result<s64, string>"),
        "{pushed}"
    );
    assert!(ok(dir, &["tasks", "late.*"]).contains("late.tasks.add(x: s64, y: s64) -> s64"));
    let sent = ok(
        dir,
        &["send", "late.tasks.add", "--args", "[20, 22]", "--json"],
    );
    let id = serde_json::from_str::<Value>(&sent).unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(ok(dir, &["result", &id, "--wait"]), "42\n");
    let meta: Value = serde_json::from_str(&ok(dir, &["result", &id, "--json"])).unwrap();
    assert_eq!(
        (&meta["status"], &meta["result"]),
        (&json!("SUCCESS"), &json!(42))
    );
    fails(dir, 4, &["result", "no-such-id"]);

    // A callback gets the result.
    let linked = ok(
        dir,
        &[
            "send",
            "my_app.tasks.halve_it",
            "--args",
            "[84]",
            "--link",
            "late.tasks.halve_it",
            "--wait",
            "--json",
        ],
    );
    let linked: Value = serde_json::from_str(&linked).unwrap();
    let child = linked["children"][0][0][0]
        .as_str()
        .unwrap_or_else(|| panic!("no child in {linked}"))
        .to_owned();
    assert_eq!(ok(dir, &["result", &child, "--wait"]), "21\n");

    assert_eq!(
        dev.signal("TERM"),
        Some(0),
        "{}",
        fs::read_to_string(dir.join("dev.log")).unwrap()
    );
    assert!(!dir.join(".petiole/session.toml").exists());
}

#[test]
fn the_http_api_keeps_to_itself() {
    let dir = folder();
    let dir = dir.path();
    let dev = Dev::start(dir, &["my-app.wasm", "--http", "127.0.0.1:0", "-c", "1"]);
    let url = dev.url.as_str();
    let bearer = format!("authorization: Bearer {}\r\n", dev.token);

    assert_eq!(get(url, "/healthz", "").0, 200);
    let (status, metrics) = get(url, "/metrics", "");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("celery_worker_up{hostname=\"celery@"),
        "{metrics}"
    );
    for path in ["/v1/modules", "/v1/tasks", "/v1/results/x", "/v1/modules/a"] {
        for headers in [
            "",
            "authorization: Bearer wrong\r\n",
            "authorization: Basic eDp4\r\n",
        ] {
            let (status, body) = get(url, path, headers);
            assert_eq!(status, 401, "{path}: {body}");
            assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string());
        }
    }
    let (status, tasks) = get(url, "/v1/tasks/my_app.tasks.add", &bearer);
    assert_eq!(status, 200, "{tasks}");
    assert!(tasks.contains("my_app.tasks.add(x: s64, y: s64) -> s64"));
    for (request, status) in [
        ("GET /v1/tasks/no.such", 404),
        ("GET /v1/modules/no.such", 404),
        ("GET /nowhere", 404),
        ("PUT /v1/tasks", 405),
        ("POST /v1/modules/bad%20name", 400),
        ("DELETE /v1/modules/my_app.tasks?version=x", 400),
    ] {
        let (got, body) = http(
            url,
            &format!(
                "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{bearer}\r\n"
            ),
        );
        assert_eq!(got, status, "{request}: {body}");
        assert!(
            serde_json::from_str::<Value>(&body).unwrap()["error"].is_string(),
            "{request}: {body}"
        );
    }
    // Refused by its announced length, before anything is received.
    let size = 65 << 20;
    let (status, body) = http(
        url,
        &format!(
            "POST /v1/modules/a.b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n{bearer}\r\n"
        ),
    );
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("larger than"), "{body}");
    let (status, body) = http(
        url,
        &format!(
            "POST /v1/modules/a.b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n{bearer}\r\nhello"
        ),
    );
    assert_eq!(status, 422, "{body}");

    let call = json!({ "task": "my_app.tasks.add", "args": [1, 1] }).to_string();
    let (status, body) = http(
        url,
        &format!(
            "POST /v1/send HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{bearer}\r\n{call}",
            call.len()
        ),
    );
    assert_eq!(status, 202, "{body}");
    let id = serde_json::from_str::<Value>(&body).unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(ok(dir, &["result", &id, "--wait"]), "2\n");
    assert!(
        get(url, &format!("/v1/results/{id}"), &bearer)
            .1
            .contains("SUCCESS")
    );
    assert!(
        get(url, "/v1/results/unknown", &bearer)
            .1
            .contains("PENDING")
    );

    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir.join(".petiole/session.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn too_little_address_space_is_told_with_what_to_do() {
    let dir = folder();
    let worker = petiole(
        dir.path(),
        &["worker", "--broker", "sqlite://b.db", "-c", "64"],
    );
    let mut limited = Command::new("sh");
    for (name, value) in worker.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited
        // 20 GB, in KiB
        .args(["-c", "ulimit -v 20000000; exec \"$0\" \"$@\""])
        .arg(worker.get_program())
        .args(worker.get_args())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        stderr.contains("can't set up 64 sandboxes") && stderr.contains("lower the concurrency"),
        "{stderr}"
    );
}

#[test]
fn the_second_interrupt_ends_a_task_that_runs() {
    let dir = folder();
    let dir = dir.path();
    let mut dev = Dev::start(dir, &["my-app.wasm", "--http", "127.0.0.1:0", "-c", "1"]);
    ok(dir, &["send", "my_app.tasks.spin"]);
    let url = dev.url.clone();
    dev.until(dir, "a running task", || {
        let metrics = get(&url, "/metrics", "").1;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("celery_worker_tasks_active{"))?
            .to_owned();
        line.ends_with(" 1").then_some(())
    });
    let interrupt = |dev: &Dev| {
        assert!(
            Command::new("kill")
                .args(["-INT", &dev.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    };
    interrupt(&dev);
    dev.until(dir, "a warm shutdown", || {
        (get(&url, "/readyz", "").0 == 503).then_some(())
    });
    interrupt(&dev);
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    // The message went back to its queue: the next worker finds it.
    let log = fs::read_to_string(dir.join("dev.log")).unwrap();
    assert!(log.contains("cold shutdown"), "{log}");
}

#[test]
fn a_worker_takes_its_settings_from_file_and_environment() {
    let dir = folder();
    let dir = dir.path();
    let token = "a-token-of-the-environment";
    let settings = "broker = 'sqlite://b.db'\nresults = 'sqlite://r.db'\nqueues = ['one', 'two']\ndefault_queue = 'two'\n\
                    hostname = 'w1@here'\nlog_format = 'json'\n[http]\naddr = '127.0.0.1:0'\n";
    fs::write(dir.join("petiole.toml"), settings).unwrap();
    let with_token = |args: &[&str]| {
        let mut command = petiole(dir, args);
        command.env("PETIOLE_TOKEN", token);
        command
    };
    let mut worker = Dev::spawn(dir, with_token(&["worker", "-c", "2"]));
    assert_eq!(
        worker.token, "",
        "a token that was configured is not written anywhere"
    );

    let push = &["push", "my-app.wasm", "--name", "my_app.tasks"];
    assert!(fails(dir, 1, push).contains("PETIOLE_TOKEN"));
    let pushed = with_token(push).output().unwrap();
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    for queue in [&["-Q", "one"][..], &[]] {
        let send = [
            &["send", "my_app.tasks.add", "--args", "[2, 2]", "--wait"],
            queue,
        ]
        .concat();
        assert_eq!(ok(dir, &send), "4\n");
    }
    let expired = [
        "send",
        "my_app.tasks.add",
        "--args",
        "[2, 2]",
        "--countdown",
        "2",
        "--expires",
        "1",
        "--wait",
    ];
    assert!(fails(dir, 1, &expired).contains("expired"));

    assert_eq!(worker.signal("QUIT"), Some(0));
    let log = fs::read_to_string(dir.join("dev.log")).unwrap();
    assert!(log.contains("w1@here"), "{log}");
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let succeeded = |line: &&Value| {
        line["task"] == "my_app.tasks.add"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("succeeded"))
    };
    assert_eq!(lines.iter().filter(succeeded).count(), 2, "{log}");
}
