//! Compiled code: the cache, and the compiler that fills it.

use super::*;

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
        .load(
            "m",
            binary(&guest()),
            &other,
            &compiler,
            Interfaces::default(),
        )
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
        .load(
            "m",
            binary(&guest()),
            &again,
            &compiler,
            Interfaces::default(),
        )
        .await
        .unwrap();
    assert_eq!(module.task("add").unwrap().schema().name, "m.add");
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

/// One compiles, 16 wait, and the next is refused at once. Those who go away take their compiler with them.
#[tokio::test]
async fn the_queue_for_the_compiler_is_bounded() {
    let host = host(1);
    let scripts = private_dir();
    let running = scripts.path().join("running");
    let text = format!("echo $$ >> {}; exec /bin/sleep 3600", running.display());
    let compiler = Compiler::child(script(&scripts, &text), COMPILE_LIMITS);
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..18 {
        let (runtime, cache, compiler) =
            (host.runtime.clone(), host.cache.clone(), compiler.clone());
        loads.spawn(async move {
            let interfaces = Interfaces::default();
            runtime
                .load("m", binary(&guest()), &cache, &compiler, interfaces)
                .await
        });
    }
    let first = loads.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(
        matches!(first, LoadError::Compile(CompileError::Busy)),
        "{first}"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    let pids = loop {
        let pids = std::fs::read_to_string(&running).unwrap_or_default();
        if pids.ends_with('\n') {
            break pids;
        }
        assert!(Instant::now() < deadline, "no compiler");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let [pid] = pids.lines().collect::<Vec<_>>()[..] else {
        panic!("more than one compiles: {pids}")
    };
    loads.shutdown().await;
    while Path::new("/proc").join(pid).exists() {
        assert!(Instant::now() < deadline, "the compiler goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = std::fs::read_dir(host.dir.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["key"], "nothing is left");
}

#[tokio::test]
async fn a_compiler_that_fails_says_how() {
    let host = host(1);
    let scripts = private_dir();
    let load = async |text: &str, limits: CompileLimits| {
        let compiler = Compiler::child(script(&scripts, text), limits);
        match host
            .runtime
            .load(
                "m",
                binary(&guest()),
                &host.cache,
                &compiler,
                Interfaces::default(),
            )
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
