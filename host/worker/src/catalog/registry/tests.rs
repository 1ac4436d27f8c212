#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use petiole_modules::{Component, Manifest, Upload};
use petiole_runtime::{CompileLimits, PoolSize};

use super::follow::{LOOKS_APART, apart};
use super::*;
use crate::catalog::announce::{announce, workers_with};
use crate::{InstallError, Passing, SettingsError};

const DEADLINE: Duration = Duration::from_secs(30);

/// As a worker does.
async fn follow(registry: &Registry, worker: &str) {
    tokio::join!(registry.follow(), announce(registry, worker));
}

/// A component with one function.
fn component(function: &str) -> Vec<u8> {
    let text = format!(
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func (export "{function}") (canon lift (core func $i "f"))))"#
    );
    wat::parse_str(text).unwrap()
}

/// A folder that is nobody else's.
fn private(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// A worker's registry, on the store that all of `dir` share, with a cache of its own.
async fn registry(dir: &Path, worker: &str, compiler: Compiler) -> Arc<Registry> {
    let size = PoolSize {
        slots: 1,
        max_memory: 64 << 20,
        budget: 128 << 20,
        readers: 1,
    };
    let limits = crate::catalog::defaults::tests::limits();
    let defaults = TaskDefaults {
        limits,
        most: petiole_permits::Limits {
            arguments: limits.arguments + 1,
            ..limits
        },
        max_retries: 3,
        default_retry_delay: Duration::ZERO,
    };
    let url = format!("file://{}/store", dir.display()).into();
    let opened = Registry::open(
        &url,
        Runtime::new(size).unwrap(),
        Cache::open(&private(dir, worker)).unwrap(),
        compiler,
        defaults,
        Grants::default(),
        None,
    );
    opened.await.unwrap()
}

async fn push(
    registry: &Registry,
    component: Vec<u8>,
    manifest: &str,
) -> Result<Installed, InstallError> {
    let component = Component::new(component);
    let upload = Upload::new("a test").with_manifest(manifest).unwrap();
    let now = Timestamp::now();
    registry.install("my.tasks", component, upload, now).await
}

fn names(tasks: &[Arc<RegisteredTask>]) -> Vec<&str> {
    tasks.iter().map(|task| task.name.as_str()).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not in {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Follows the store until all is loaded.
async fn is_loaded_in_time(registry: &Registry) {
    tokio::select! {
        () = follow(registry, "two@host") => {}
        () = until("it is loaded", || registry.unready().is_none()) => {}
    }
    assert!(matches!(registry.find("my.tasks.run"), Found::Task(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_worker_installed_is_found_by_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    let two = registry(dir.path(), "two", Compiler::in_process()).await;
    let following = {
        let two = Arc::clone(&two);
        tokio::spawn(async move { follow(&two, "two@host").await })
    };
    push(&one, component("run"), "").await.unwrap();
    let asking = (0..100).map(|n| {
        let (two, known) = (Arc::clone(&two), n % 2 == 0);
        tokio::spawn(async move {
            let name = match known {
                true => "my.tasks.run".to_owned(),
                false => format!("other.tasks.run{n}"),
            };
            assert!(two.seek(&name).await);
            match two.find(&name) {
                Found::Task(_) => assert!(known),
                Found::Unknown => assert!(!known, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    let name = "my.tasks".parse().unwrap();
    let workers = workers_with(two.store(), &name, 1, DEADLINE).await.unwrap();
    let state = workers.first().and_then(|worker| worker.modules.get(&name));
    assert_eq!(state.and_then(|state| state.version), Some(1));
    following.abort();
    let _ = following.await;
    // A file that is being written at that moment goes once it is.
    until("it is told of no more", || {
        two.store().workers().unwrap().is_empty()
    })
    .await;
}

/// One look answers all who ask while it has not begun; a flood of names is no flood of looks.
#[tokio::test(flavor = "multi_thread")]
async fn looks_are_shared_and_apart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), "one", Compiler::in_process()).await;
    let begun = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let looks = (0..200).map(|_| registry.look());
        futures::future::join_all(looks).await;
        seen.extend(registry.catalog.lock().await.answered);
    }
    // At most one more than have room apart, for the one that was before.
    let most = begun.elapsed().as_millis() / LOOKS_APART.start().as_millis() + 1;
    assert!(!seen.is_empty() && seen.len() as u128 <= most, "{seen:?}");
}

#[test]
fn a_slow_store_is_looked_at_more_rarely() {
    let us = Duration::from_micros;
    for (took, expected) in [
        (20, 1_000),
        (300, 3_000),
        (5_000, 50_000),
        (900_000, 100_000),
    ] {
        assert_eq!(apart(us(took)), us(expected), "{took} us");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_a_fault_of_the_host_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    push(&one, component("run"), "").await.unwrap();
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "no folder").unwrap();

    // A worker that starts meanwhile takes nothing, and refuses nothing.
    let two = registry(dir.path(), "two", Compiler::in_process()).await;
    assert!(two.refresh().await.is_err());
    assert_eq!(two.unready(), Some("the catalog can't be read".to_owned()));
    assert!(futures::poll!(std::pin::pin!(two.serving())).is_pending());
    assert!(two.seek("my.tasks.run").await);
    assert!(matches!(two.find("my.tasks.run"), Found::NotLoaded { .. }));
    // One that had its modules goes on with them.
    assert!(one.refresh().await.is_err());
    assert!(matches!(one.find("my.tasks.run"), Found::Task(_)));
    assert!(matches!(one.find("my.tasks.new"), Found::NotLoaded { .. }));
    // An empty folder in the store's place is no empty store.
    std::fs::remove_file(&store).unwrap();
    assert!(one.refresh().await.is_err());
    assert!(!store.exists());

    std::fs::rename(&away, &store).unwrap();
    for registry in [&one, &two] {
        registry.refresh().await.unwrap();
        assert_eq!(registry.unready(), None);
        assert!(matches!(registry.find("my.tasks.run"), Found::Task(_)));
        assert!(matches!(registry.find("my.tasks.new"), Found::Unknown));
    }
    two.serving().await;
}

#[tokio::test]
async fn a_component_that_is_not_in_the_store_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    let installed = push(&one, component("run"), "").await.unwrap();
    let file = one.store().path(&installed.digest);
    let away = dir.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    let two = registry(dir.path(), "two", Compiler::in_process()).await;
    two.refresh().await.unwrap();
    let [failed] = two.not_loaded().try_into().unwrap();
    assert!(!failed.refused && failed.reason.contains("is not in the store"));
    let unready = "module my.tasks version 1 is not loaded: the store does not give the component";
    assert_eq!(two.unready().as_deref(), Some(unready));
    // Its own tasks wait, with as much as a manifest may let them have; others are unknown.
    assert!(matches!(two.find("my.tasks.run"), Found::NotLoaded { .. }));
    assert!(matches!(two.find("my.tasks.walk"), Found::Unknown));
    assert_eq!(
        two.argument_limit(&two.find("my.tasks.run")),
        two.defaults.most.arguments
    );
    assert_eq!(
        two.argument_limit(&two.find("my.tasks.walk")),
        two.defaults.limits.arguments
    );
    std::fs::rename(&away, &file).unwrap();
    is_loaded_in_time(&two).await;
}

#[tokio::test]
async fn a_compiler_that_was_killed_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    push(&one, component("run"), "").await.unwrap();
    let code = std::fs::read_dir(dir.path().join("one")).unwrap();
    let code = code.map(|entry| entry.unwrap().path().join("code"));
    let code = code.into_iter().find(|code| code.exists()).unwrap();
    // Killed the first time; then it gives the code that the other worker has made.
    let script = dir.path().join("compiler");
    let text = format!(
        "#!/bin/sh\nif /bin/mkdir {dir}/tried 2>/dev/null; then kill -9 $$; fi\n/bin/cp {code} \"$3\"\n",
        dir = dir.path().display(),
        code = code.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let limits = CompileLimits {
        time: DEADLINE,
        memory: 1 << 30,
    };
    let two = registry(dir.path(), "two", Compiler::child(script, limits)).await;
    two.refresh().await.unwrap();
    let [failed] = two.not_loaded().try_into().unwrap();
    assert!(
        !failed.refused && failed.reason.contains("signal: 9"),
        "{failed:?}"
    );
    assert!(matches!(two.find("my.tasks.run"), Found::NotLoaded { .. }));
    is_loaded_in_time(&two).await;
}

#[tokio::test]
async fn an_install_answers_with_its_own_version_or_says_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    let first = push(&one, component("run"), "").await.unwrap();
    assert_eq!(
        (first.version, names(&first.tasks)),
        (1, vec!["my.tasks.run"])
    );
    // The cache is damaged (another file: the first one is mapped), and the component comes again with another manifest.
    for entry in std::fs::read_dir(dir.path().join("one")).unwrap() {
        let code = entry.unwrap().path().join("code");
        if code.exists() {
            std::fs::remove_file(&code).unwrap();
            std::fs::write(code, "damaged").unwrap();
        }
    }
    let second = push(&one, component("run"), "[tasks.run]\nname = 'my.new'")
        .await
        .unwrap();
    assert_eq!((second.version, names(&second.tasks)), (2, vec!["my.new"]));
    assert!(matches!(one.find("my.tasks.run"), Found::Unknown));
    // Once more, which is the version that it was.
    let again = push(&one, component("run"), "").await.unwrap();
    assert_eq!(
        (again.version, names(&again.tasks)),
        (1, vec!["my.tasks.run"])
    );

    // Another worker was quicker.
    let two = registry(dir.path(), "two", Compiler::in_process()).await;
    push(&two, component("walk"), "").await.unwrap();
    let (name, manifest) = ("my.tasks".parse().unwrap(), Manifest::default());
    let run = Component::new(component("run"));
    let load = one.compiled(&name, &run, &manifest);
    let module = load.await.unwrap();
    let answer = one.take_over(&name, 1, &first.digest, &module).await;
    let error = answer.unwrap_err();
    assert!(
        matches!(error, InstallError::Superseded { now: Some(3), .. }),
        "{error}"
    );
    assert!(!error.is_refusal() && error.passing().is_none());
    // The store is away.
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    let answer = one.take_over(&name, 3, &first.digest, &module).await;
    let error = answer.unwrap_err();
    assert!(matches!(error, InstallError::NotFollowed { .. }), "{error}");
    assert_eq!(error.passing(), Some(Passing::Catalog));
    std::fs::rename(&away, &store).unwrap();
}

#[tokio::test]
async fn what_this_worker_does_not_take_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let one = registry(dir.path(), "one", Compiler::in_process()).await;
    let upload = Upload::new("a test").with_tasks(["my.tasks.run"]);
    let garbage = Component::new(&b"no component"[..]);
    one.store().put(&garbage, b"[]").unwrap();
    let digest = garbage.digest();
    let (name, now) = ("my.tasks".parse().unwrap(), Timestamp::now());
    let catalog = one.store().catalog();
    let version = catalog.add(&name, digest, 12, upload, now).unwrap();
    catalog.activate(&name, version, "a test", now).unwrap();
    one.refresh().await.unwrap();
    match one.find("my.tasks.run") {
        Found::Refused { module, reason } => {
            assert_eq!(module, name);
            assert!(reason.contains("not WebAssembly"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // It is decided: nothing to wait for.
    assert_eq!(one.unready(), None);
    one.serving().await;
    let [failed] = one.not_loaded().try_into().unwrap();
    assert!(failed.refused);
    // Nobody takes its names meanwhile.
    let upload = Upload::new("a test").with_manifest("[tasks.run]\nname = 'my.tasks.run'");
    let taken = one
        .install(
            "thief",
            Component::new(component("run")),
            upload.unwrap(),
            now,
        )
        .await;
    let taken = taken.unwrap_err();
    assert!(
        matches!(
            taken,
            InstallError::Settings(SettingsError::NameTaken { .. })
        ),
        "{taken}"
    );
}
