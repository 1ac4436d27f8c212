//! Folders and temporary folders, by the guest `storage`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use petiole_permits::Access;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

const KIB: u64 = 1024;

/// Bytes that each file, folder and link counts for that is made.
const ENTRY: u64 = 4 * KIB;

const LIMITS: Limits = Limits {
    memory: 8 * MIB,
    handles: 2_000,
    disk: 4 << 20,
    ..super::LIMITS
};

/// Time to wait for a condition that is about to hold.
const PATIENCE: Duration = Duration::from_secs(20);

/// The test guest, built by `cargo xtask guests` (and by `cargo xtask test`).
pub(crate) fn storage() -> Vec<u8> {
    let path = "../../target/wasm32-wasip2/release/storage.wasm";
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("run `cargo xtask guests` first")
}

/// A task's surroundings: two folders beside each other, of which it is granted the first.
struct Sandboxed {
    module: Module,
    granted: Granted,
    limits: Limits,
    base: TempDir,
}

impl Sandboxed {
    /// `/data` has the file `mine`; what is outside has the file `secret`.
    async fn new(access: Access) -> Self {
        let base = tempfile::tempdir().unwrap();
        for folder in ["data", "outside", "other"] {
            std::fs::create_dir(base.path().join(folder)).unwrap();
        }
        std::fs::write(base.path().join("data/mine"), "my own").unwrap();
        std::fs::write(base.path().join("outside/secret"), "hidden").unwrap();
        let mut sandboxed = Self::bare(base).await;
        sandboxed.grant("data", access);
        sandboxed
    }

    async fn bare(base: TempDir) -> Self {
        let interfaces = Interfaces {
            keyvalue: true,
            ..Interfaces::default()
        };
        let compiler = Compiler::in_process();
        let module = HOST
            .runtime
            .load(
                "storage",
                binary(&storage()),
                &HOST.cache,
                &compiler,
                interfaces,
            )
            .await;
        Self {
            module: module.unwrap(),
            granted: Granted::none(),
            limits: LIMITS,
            base,
        }
    }

    fn grant(&mut self, folder: &str, access: Access) {
        self.granted.folders.push(Folder {
            host: self.base.path().join(folder),
            guest: folder.to_owned(),
            access,
        });
    }

    async fn with_temp(quota: u64) -> Self {
        let mut sandboxed = Self::bare(tempfile::tempdir().unwrap()).await;
        sandboxed.granted.temp = Some(quota);
        sandboxed
    }

    fn path(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    async fn run(&self, task: &str, args: Value) -> Run {
        self.try_run(task, args).await.unwrap()
    }

    async fn try_run(&self, task: &str, args: Value) -> Result<Run, HostFault> {
        let task = self.module.task(task).expect(task);
        let arguments = task
            .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
            .unwrap();
        let granted = Arc::new(self.granted.clone());
        let progress = watch::Sender::new(None);
        task.call(arguments, context(), self.limits, &granted, &progress)
            .await
    }

    /// The task's result: its value, or the text of its error.
    async fn call(&self, task: &str, args: Value) -> Result<Value, String> {
        match self.run(task, args).await.outcome {
            Outcome::Success(value) => Ok(value),
            Outcome::Failure { exception, .. } if exception.exc_type == "TaskError" => {
                Err(exception.exc_message[0].as_str().unwrap().to_owned())
            }
            other => panic!("{task}: {other:?}"),
        }
    }

    /// The outcome of each use of a path.
    async fn try_path(&self, root: &str, path: &str) -> BTreeMap<String, String> {
        let outcomes = self.call("try_path", json!([root, path])).await.unwrap();
        serde_json::from_value::<Vec<(String, String)>>(outcomes)
            .unwrap()
            .into_iter()
            .collect()
    }

    /// Everything of the outside that a guest could have changed.
    fn outside(&self) -> Vec<(PathBuf, u64, i64, i64, u64, Vec<u8>)> {
        let entries = std::fs::read_dir(self.path("outside")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .chain([self.path("outside")])
            .map(|path| {
                let meta = path.metadata().unwrap();
                let content = std::fs::read(&path).unwrap_or_default();
                let (modified, nanos) = (meta.mtime(), meta.mtime_nsec());
                (path, meta.nlink(), modified, nanos, meta.ino(), content)
            })
            .collect()
    }
}

fn ok(value: impl Into<Value>) -> Result<Value, String> {
    Ok(value.into())
}

fn error(text: &str) -> Result<Value, String> {
    Err(text.to_owned())
}

#[tokio::test]
async fn folders_are_used_as_they_are_granted() {
    let mut sandboxed = Sandboxed::new(Access::ReadOnly).await;
    sandboxed.grant("other", Access::ReadWrite);
    let roots = sandboxed.call("roots", json!([])).await;
    assert_eq!(roots, ok(json!(["/data", "/other"])));
    for (task, args, expected) in [
        ("read_file", json!(["/data/mine"]), ok("my own")),
        ("list_folder", json!(["/data"]), ok(json!(["mine"]))),
        (
            "write_file",
            json!(["/data/mine", "x"]),
            error("PermissionDenied"),
        ),
        (
            "write_file",
            json!(["/data/new", "x"]),
            error("PermissionDenied"),
        ),
        (
            "append_file",
            json!(["/data/mine", "x"]),
            error("PermissionDenied"),
        ),
        ("tidy", json!(["/data"]), error("PermissionDenied")),
        ("write_file", json!(["/other/new", "one "]), ok(Value::Null)),
        ("append_file", json!(["/other/new", "two"]), ok("one two")),
        ("list_folder", json!(["/other"]), ok(json!(["new"]))),
        ("tidy", json!(["/other"]), ok(json!(["1", "false"]))),
        // nothing else is there at all
        ("read_file", json!(["/etc/passwd"]), error("NotFound")),
        ("list_folder", json!(["/"]), error("NotFound")),
        ("list_folder", json!(["/tmp"]), error("NotFound")),
        ("read_file", json!(["mine"]), error("NotFound")),
    ] {
        assert_eq!(
            sandboxed.call(task, args.clone()).await,
            expected,
            "{task} {args}"
        );
    }
    assert_eq!(
        std::fs::read(sandboxed.path("other/new")).unwrap(),
        b"one two"
    );
    assert_eq!(
        std::fs::read(sandboxed.path("data/mine")).unwrap(),
        b"my own"
    );
}

#[tokio::test]
async fn a_task_without_folders_has_none() {
    let sandboxed = Sandboxed::bare(tempfile::tempdir().unwrap()).await;
    assert_eq!(sandboxed.call("roots", json!([])).await, ok(json!([])));
    assert_eq!(
        sandboxed.call("write_file", json!(["/tmp/x", "x"])).await,
        error("NotFound")
    );
}

#[tokio::test]
async fn nothing_is_changed_in_a_read_only_folder() {
    let sandboxed = Sandboxed::new(Access::ReadOnly).await;
    let outcomes = sandboxed.try_path("/data", "mine").await;
    for (what, outcome) in &outcomes {
        let reads = ["read", "read, no link", "stat", "hash"];
        let expected = match what.as_str() {
            what if reads.contains(&what) => "ok",
            "list" => "not-directory",
            _ => "not-permitted",
        };
        assert_eq!(outcome, expected, "{what}");
    }
    let file = std::fs::metadata(sandboxed.path("data/mine")).unwrap();
    assert_eq!((file.len(), file.nlink()), (6, 1));
    assert_eq!(
        std::fs::read_dir(sandboxed.path("data")).unwrap().count(),
        1
    );
}

#[tokio::test]
async fn no_path_leads_out_of_a_folder() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    let before = sandboxed.outside();
    std::fs::create_dir(sandboxed.path("data/inner")).unwrap();
    let absolute = sandboxed.path("outside/secret").display().to_string();
    for path in [
        "../outside/secret",
        "../outside",
        "../outside/new",
        "..",
        "../",
        "./..",
        "inner/../../outside/secret",
        "inner/../../data/mine",
        "../data",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/dev/null",
        &absolute,
    ] {
        for (what, outcome) in sandboxed.try_path("/data", path).await {
            assert!(
                [
                    "not-permitted",
                    "invalid",
                    "exist",
                    "busy",
                    "is-directory",
                    "no-entry"
                ]
                .contains(&&*outcome),
                "{what} {path}: {outcome}"
            );
        }
        assert_eq!(sandboxed.outside(), before, "{path}");
        let kept = std::fs::read(sandboxed.path("data/mine")).unwrap();
        assert_eq!(kept, b"my own", "{path}");
    }
}

#[tokio::test]
async fn no_link_leads_out_of_a_folder() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    let before = sandboxed.outside();
    let outside = sandboxed.path("outside");
    for (target, path) in [
        (outside.join("secret"), "link"),
        (outside.clone(), "link/secret"),
        (outside.clone(), "link/new"),
        ("../outside/secret".into(), "link"),
        ("../outside".into(), "link/secret"),
        ("../outside/new".into(), "link"),
        ("../data/../outside/secret".into(), "link"),
        ("/".into(), "link/etc/passwd"),
        ("/etc/passwd".into(), "link"),
        ("/proc/self/root".into(), "link/etc/passwd"),
        ("/proc/self/environ".into(), "link"),
        ("/proc/self/fd".into(), "link/0"),
        ("/proc/self/cwd".into(), "link"),
        ("/dev/zero".into(), "link"),
        ("link".into(), "link"),
    ] {
        let link = sandboxed.path("data/link");
        symlink(&target, &link).unwrap();
        let outcomes = sandboxed.try_path("/data", path).await;
        // the link itself is the task's to move or remove; through it, nothing is
        for what in [
            "read",
            "read, no link",
            "list",
            "write",
            "create",
            "truncate",
            "stat",
            "hash",
            "touch",
            "make folder",
        ] {
            let outcome = &outcomes[what];
            assert_ne!(outcome, "ok", "{what} {path} -> {}", target.display());
        }
        assert_eq!(
            sandboxed.outside(),
            before,
            "{path} -> {}",
            target.display()
        );
        for entry in std::fs::read_dir(sandboxed.path("data")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(sandboxed.path("data/mine"), "my own").unwrap();
    }
}

#[tokio::test]
async fn links_within_a_folder_are_followed() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    std::fs::create_dir(sandboxed.path("data/inner")).unwrap();
    symlink("../mine", sandboxed.path("data/inner/up")).unwrap();
    assert_eq!(
        sandboxed.call("read_file", json!(["/data/inner/up"])).await,
        ok("my own")
    );
}

#[tokio::test]
async fn a_guest_makes_no_link_that_leads_out() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.granted.temp = Some(2 * ENTRY);
    for (root, target, made) in [
        ("/data", "mine", ok(Value::Null)),
        ("/data", "../outside/secret", error("not-permitted")),
        ("/data", "inner/../../outside", error("not-permitted")),
        ("/data", "/etc/passwd", error("not-permitted")),
        // a link that nobody else will follow
        ("/tmp", "../../../../etc/passwd", ok(Value::Null)),
        ("/tmp", "/etc/passwd", error("not-permitted")),
    ] {
        let args = json!([root, target, "made"]);
        assert_eq!(
            sandboxed.call("make_symlink", args).await,
            made,
            "{root} {target}"
        );
    }
    assert_eq!(
        sandboxed.call("read_file", json!(["/data/made"])).await,
        ok("my own")
    );
}

#[tokio::test]
async fn nothing_goes_from_one_folder_to_another_but_by_copying() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.grant("other", Access::ReadWrite);
    sandboxed.granted.temp = Some(KIB);
    for to in ["/other", "/tmp"] {
        let args = json!(["/data", "mine", to, "theirs"]);
        assert_eq!(
            sandboxed.call("bring", args).await,
            ok(json!(["cross-device", "cross-device"])),
            "{to}"
        );
    }
    let args = json!(["/data", "mine", "/data", "moved"]);
    assert_eq!(sandboxed.call("bring", args).await, ok(json!(["ok", "ok"])));
}

#[tokio::test]
async fn what_is_neither_file_nor_folder_is_not_opened() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    let fifo = sandboxed.path("data/fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let _listener = UnixListener::bind(sandboxed.path("data/socket")).unwrap();
    symlink("fifo", sandboxed.path("data/link")).unwrap();
    for path in ["/data/fifo", "/data/link", "/data/socket"] {
        assert_eq!(
            sandboxed.call("read_file", json!([path])).await,
            error("PermissionDenied"),
            "{path}"
        );
        assert_eq!(
            sandboxed.call("write_file", json!([path, "x"])).await,
            error("PermissionDenied"),
            "{path}"
        );
    }
    for path in ["fifo", "socket"] {
        let outcomes = sandboxed.try_path("/data", path).await;
        assert_eq!(outcomes["touch"], "not-permitted", "{path}");
    }
}

#[tokio::test]
async fn a_fifo_that_takes_a_files_place_keeps_nobody_waiting() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.limits.time = Duration::from_secs(5);
    let (file, fifo) = (sandboxed.path("data/mine"), sandboxed.path("data/fifo"));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let over = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Relaxed) {
                renameat_with(CWD, &file, CWD, &fifo, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let mut outcomes = Vec::new();
    for _ in 0..200 {
        outcomes.push(sandboxed.run("read_file", json!(["/data/mine"])).await);
    }
    over.store(true, Relaxed);
    swapping.join().unwrap();
    // a thread that waits for the other end, so that a failed test ends too
    for path in ["data/mine", "data/fifo"] {
        let both = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(sandboxed.path(path));
        drop(both.unwrap());
    }
    for run in outcomes {
        match run.outcome {
            Outcome::Success(value) => assert_eq!(value, "my own"),
            outcome => assert_eq!(failure(&outcome).1, [json!("PermissionDenied")]),
        }
    }
}

#[tokio::test]
async fn a_path_has_a_length() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    for path in ["x".repeat(4_097), "./".repeat(2_048) + "mine"] {
        for (what, outcome) in sandboxed.try_path("/data", &path).await {
            assert_eq!(outcome, "name-too-long", "{what}");
        }
    }
    let up = "../".repeat(2_000);
    let made = sandboxed.call("make_symlink", json!(["/data", up, "link"]));
    assert_eq!(made.await, error("name-too-long"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_the_hosts_fault() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.grant("missing", Access::ReadOnly);
    let fault = sandboxed.try_run("roots", json!([])).await.unwrap_err();
    let text = fault.to_string();
    assert!(
        text.contains("missing") && text.contains("No such file"),
        "{text}"
    );
}

#[test]
fn a_disk_that_does_not_answer_is_the_hosts_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let mut sandboxed = runtime.block_on(Sandboxed::new(Access::ReadOnly));
    sandboxed.limits.time = Duration::from_millis(1);
    // the only thread that could open the folder
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    let run = runtime.block_on(sandboxed.try_run("roots", json!([])));
    let text = run.unwrap_err().to_string();
    assert!(text.contains("can't be opened within 5 s"), "{text}");
    drop(let_go);
}

const WAYS: [&str; 9] = [
    "write",
    "hole",
    "set-size",
    "stream",
    "append",
    "stream after a hole",
    "blocking",
    "zeroes",
    "splice",
];

#[tokio::test]
async fn what_is_written_is_limited_whatever_way_it_goes() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.limits.disk = 64 * KIB;
    std::fs::write(sandboxed.path("data/source"), vec![b'x'; 128 * 1024]).unwrap();
    let target = sandboxed.path("data/target");
    for way in WAYS {
        std::fs::write(&target, "").unwrap();
        let run = sandboxed
            .run("write_by", json!(["/data", "target", way, 64 * KIB]))
            .await;
        assert_eq!(run.outcome, Outcome::Success(json!(64 * KIB)), "{way}");
        assert_eq!((run.usage.disk, run.limit), (64 * KIB, None), "{way}");
        assert_eq!(target.metadata().unwrap().len(), 64 * KIB, "{way}");

        std::fs::write(&target, "").unwrap();
        let run = sandboxed
            .run("write_by", json!(["/data", "target", way, 64 * KIB + 1]))
            .await;
        let (exception, message, _) = failure(&run.outcome);
        let message = message[0].as_str().unwrap();
        assert_eq!(exception, "DiskLimitExceeded", "{way}");
        assert!(
            message.starts_with("disk limit of 64 KiB exceeded: the task wrote "),
            "{way}: {message}"
        );
        assert_eq!(
            (run.usage.disk, run.limit),
            (64 * KIB, Some(Limit::Disk)),
            "{way}"
        );
        assert!(target.metadata().unwrap().len() <= 64 * KIB, "{way}");
    }
}

#[tokio::test]
async fn what_is_made_counts_as_a_block() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.grant("other", Access::ReadWrite);
    for folder in ["data", "other"] {
        std::fs::write(sandboxed.path(folder).join("source"), "x").unwrap();
    }
    let run = sandboxed.run("make", json!(["/data", 8])).await;
    assert_eq!(run.outcome, Outcome::Success(json!([8, "ok"])));
    let links = 2 * u64::try_from("anywhere".len()).unwrap();
    assert_eq!(run.usage.disk, 8 * ENTRY + links);
    // a file that is there is opened, a folder that is there is an error
    let run = sandboxed.run("make", json!(["/data", 8])).await;
    assert_eq!(run.outcome, Outcome::Success(json!([1, "exist"])));
    assert_eq!(run.usage.disk, 0);

    sandboxed.limits.disk = 8 * ENTRY + links - 1;
    let run = sandboxed.run("make", json!(["/other", 8])).await;
    assert_eq!(failure(&run.outcome).0, "DiskLimitExceeded");
    assert_eq!(run.limit, Some(Limit::Disk));

    let sandboxed = Sandboxed::with_temp(10 * ENTRY).await;
    let run = sandboxed.run("go_deep", json!(["/tmp", 100])).await;
    let full = Outcome::Success(json!([10, "insufficient-space"]));
    assert_eq!(run.outcome, full);
    assert_eq!((run.usage.disk, run.limit), (10 * ENTRY, None));
}

#[tokio::test]
async fn a_full_temporary_folder_is_a_full_disk() {
    // the file, and what is in it
    let sandboxed = Sandboxed::with_temp(ENTRY + 64 * KIB).await;
    for way in WAYS {
        if way == "splice" {
            // the file that it would read from takes its part of the quota
            continue;
        }
        let written = sandboxed
            .call("write_by", json!(["/tmp", "target", way, 64 * KIB]))
            .await;
        assert_eq!(written, ok(64 * KIB), "{way}");
        let full = sandboxed
            .call("write_by", json!(["/tmp", "target", way, 64 * KIB + 1]))
            .await;
        assert_eq!(full, error("insufficient-space"), "{way}");
    }
    // the standard library sees it too, but wasi-libc knows one error for all streams
    let run = sandboxed
        .run("fill", json!(["/tmp/file", 128 * KIB, 4 * KIB]))
        .await;
    let (_, message, _) = failure(&run.outcome);
    assert_eq!(
        message,
        [json!("65536 bytes, then I/O error (os error 29)")]
    );
    assert_eq!((run.usage.disk, run.limit), (ENTRY + 64 * KIB, None));
}

#[tokio::test]
async fn a_temporary_folder_counts_to_the_disk_limit_as_well() {
    let mut sandboxed = Sandboxed::with_temp(64 * KIB).await;
    sandboxed.limits.disk = 32 * KIB;
    let run = sandboxed
        .run("fill", json!(["/tmp/file", 64 * KIB, 4 * KIB]))
        .await;
    assert_eq!(failure(&run.outcome).0, "DiskLimitExceeded");
    assert_eq!(run.limit, Some(Limit::Disk));
}

/// The paths of a run's file with that name, in any temporary folder of this machine.
fn temporary(name: &str) -> Vec<PathBuf> {
    let folders = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    folders(&std::env::temp_dir())
        .filter(|path| path.to_string_lossy().contains("petiole-temp-"))
        .flat_map(|path| folders(&path).collect::<Vec<_>>())
        .map(|folder| folder.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A name that no other test uses.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[tokio::test]
async fn a_temporary_folder_is_the_runs_own_and_gone_with_it() {
    let sandboxed = Arc::new(Sandboxed::with_temp(2 * ENTRY).await);
    let name = unique("own");
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let (sandboxed, path) = (sandboxed.clone(), format!("/tmp/{name}"));
            tokio::spawn(async move { sandboxed.call("write_and_sleep", json!([path, 500])).await })
        })
        .collect();
    until("both have written", || temporary(&name).len() == 2).await;
    for path in temporary(&name) {
        for folder in path.ancestors().skip(1).take(2) {
            let mode = folder.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{folder:?}");
        }
    }
    for run in runs {
        assert_eq!(run.await.unwrap(), ok(Value::Null));
    }
    assert_eq!(temporary(&name), Vec::<PathBuf>::new());
    assert_eq!(
        sandboxed.call("list_folder", json!(["/tmp"])).await,
        ok(json!([]))
    );
}

#[tokio::test]
async fn a_temporary_folder_goes_with_a_run_that_is_killed_or_dropped() {
    let mut sandboxed = Sandboxed::with_temp(2 * ENTRY).await;
    sandboxed.limits.time = Duration::from_millis(200);
    let name = unique("killed");
    let path = format!("/tmp/{name}");
    let run = sandboxed
        .run("write_and_sleep", json!([path, 60_000]))
        .await;
    assert_eq!(failure(&run.outcome).0, "TimeLimitExceeded");
    assert_eq!(temporary(&name), Vec::<PathBuf>::new());

    sandboxed.limits.time = LIMITS.time;
    let sleeping = sandboxed.call("write_and_sleep", json!([path, 60_000]));
    tokio::select! {
        ended = sleeping => panic!("{ended:?}"),
        () = until("it has written", || !temporary(&name).is_empty()) => {}
    }
    until("its folder is gone", || temporary(&name).is_empty()).await;
}

#[tokio::test]
async fn a_temporary_folder_is_removed_however_deep_it_is() {
    let mut sandboxed = Sandboxed::with_temp(3_000 * ENTRY).await;
    sandboxed.limits.disk = 3_000 * ENTRY;
    let before = temporary("down").len();
    let deep = sandboxed.call("go_deep", json!(["/tmp", 3_000])).await;
    // as many as may be open, and no more
    assert_eq!(deep, ok(json!([3_000, "ok"])));
    assert_eq!(temporary("down").len(), before);
}

#[tokio::test]
async fn so_many_entries_may_be_made() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.limits.disk = 64 << 20;
    std::fs::write(sandboxed.path("data/source"), "x").unwrap();
    let made = sandboxed.call("make", json!(["/data", 10_001])).await;
    assert_eq!(made, ok(json!([10_000, "insufficient-space"])));
}

#[tokio::test]
async fn so_many_files_and_streams_may_be_open() {
    let sandboxed = Sandboxed::new(Access::ReadWrite).await;
    for what in ["files", "streams of dropped files", "output streams"] {
        let kept = sandboxed.call("keep", json!(["/data", what, 2_000])).await;
        let (count, error): (u32, String) = serde_json::from_value(kept.unwrap()).unwrap();
        assert!((8..256).contains(&count), "{what}: {count}");
        assert_eq!(error, "insufficient-memory", "{what}");
    }
}

#[tokio::test]
async fn open_files_are_handles() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    sandboxed.limits.handles = 50;
    for what in ["files", "output streams", "lists"] {
        let run = sandboxed.run("keep", json!(["/data", what, 2_000])).await;
        assert_eq!(failure(&run.outcome).0, "HandleLimitExceeded", "{what}");
        assert_eq!(run.limit, Some(Limit::Handles), "{what}");
    }
}

#[tokio::test]
async fn so_many_entries_may_be_listed_at_once() {
    let mut sandboxed = Sandboxed::new(Access::ReadOnly).await;
    sandboxed.limits.result = MIB;
    for n in 0..20_000 {
        std::fs::write(sandboxed.path(&format!("data/{n}")), "").unwrap();
    }
    let listed = sandboxed.call("list_folder", json!(["/data"])).await;
    assert_eq!(listed.unwrap().as_array().unwrap().len(), 20_001);
    sandboxed.granted.folders[0].access = Access::ReadWrite;
    let kept = sandboxed.call("keep", json!(["/data", "lists", 100])).await;
    assert_eq!(kept, ok(json!([2, "insufficient-memory"])));
}

/// The descriptors of this process on what is in a folder.
fn descriptors(folder: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
        .filter(|target| target.starts_with(folder))
        .count()
}

#[tokio::test]
async fn every_descriptor_is_closed_after_the_run() {
    let mut sandboxed = Sandboxed::new(Access::ReadWrite).await;
    let folder = sandboxed.path("");
    assert_eq!(descriptors(&folder), 0);
    for what in ["files", "streams of dropped files", "output streams"] {
        sandboxed
            .call("keep", json!(["/data", what, 100]))
            .await
            .unwrap();
        assert_eq!(descriptors(&folder), 0, "{what}");
    }
    sandboxed.limits.time = Duration::from_millis(500);
    let spinning = sandboxed.run("open_and_spin", json!(["/data", 100]));
    let mut spinning = std::pin::pin!(spinning);
    let mut most = 0;
    let run = loop {
        tokio::select! {
            run = &mut spinning => break run,
            () = tokio::time::sleep(Duration::from_millis(1)) => most = most.max(descriptors(&folder)),
        }
    };
    assert_eq!(failure(&run.outcome).0, "TimeLimitExceeded");
    // the files, and the folder itself
    assert_eq!(most, 101);
    // a thread that was opening one when the time was over closes it a moment later
    until("all are closed", || descriptors(&folder) == 0).await;
}
