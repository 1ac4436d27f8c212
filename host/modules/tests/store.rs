//! Store and catalog from outside, on a real folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use petiole_modules::{
    Catalog, CatalogError, Component, Digest, Generation, ModuleName, Store, StoreError, Upload,
    VersionNumber,
};
use tempfile::TempDir;

fn store(folder: &Path) -> Store {
    Store::open(&format!("file://{}", folder.display()).into()).unwrap()
}

fn new_store() -> (TempDir, Store, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let catalog = store.catalog();
    (folder, store, catalog)
}

fn name(text: &str) -> ModuleName {
    text.parse().unwrap()
}

/// Puts a component and adds it as a version.
fn push(
    store: &Store,
    module: &str,
    component: &[u8],
    now: Timestamp,
) -> Result<VersionNumber, CatalogError> {
    let component = Component::new(component.to_vec());
    store.put(&component, b"[]")?;
    store.catalog().add(
        &name(module),
        component.digest(),
        component.size(),
        Upload::new("a test"),
        now,
    )
}

#[test]
fn what_is_put_is_got() {
    let (folder, store, _) = new_store();
    let component = Component::new(&b"component"[..]);
    let digest = component.digest();
    store.put(&component, b"[]").unwrap();
    store.put(&component, b"[]").unwrap();
    assert_eq!(store.get(&digest).unwrap(), component);
    assert_eq!(fs::read(store.path(&digest)).unwrap(), b"component");
    assert_eq!(
        fs::read_dir(folder.path().join("temporary"))
            .unwrap()
            .count(),
        0
    );
    let other = Digest::of(b"other");
    assert!(matches!(store.get(&other), Err(StoreError::Missing { digest }) if digest == other));
}

#[test]
fn a_corrupt_component_is_detected_and_repaired_by_putting_it_again() {
    let (_folder, store, _) = new_store();
    let component = Component::new(&b"component"[..]);
    let digest = component.digest();
    store.put(&component, b"[]").unwrap();
    for damage in [b"componenT".as_slice(), b"comp", b""] {
        fs::write(store.path(&digest), damage).unwrap();
        match store.get(&digest) {
            Err(StoreError::Corrupt {
                digest: wanted,
                found,
                path,
            }) => {
                assert_eq!(
                    (wanted, found, path),
                    (digest, Digest::of(damage), store.path(&digest))
                );
            }
            other => unreachable!("{other:?}"),
        }
    }
    store.put(&component, b"[]").unwrap();
    assert_eq!(store.get(&digest).unwrap(), component);
}

#[test]
fn urls_other_than_file_are_refused_by_name() {
    assert!(
        matches!(Store::open(&"s3://bucket/prefix".into()), Err(StoreError::UnsupportedScheme { scheme }) if scheme == "s3")
    );
    for url in ["", "file://", "/var/lib/petiole"] {
        let error = Store::open(&url.into()).unwrap_err();
        assert!(error.to_string().contains("file://DIR"), "{error}");
    }
}

#[test]
fn versions_are_added_activated_rolled_back_and_removed() {
    let (_folder, store, catalog) = new_store();
    let now = Timestamp::now();
    let tasks = name("my_app.tasks");
    assert!(catalog.list().unwrap().is_empty());
    assert!(matches!(
        catalog.show(&tasks),
        Err(CatalogError::UnknownModule { .. })
    ));
    assert!(matches!(
        catalog.add(
            &tasks,
            Digest::of(b"never put"),
            9,
            Upload::new("a test"),
            now
        ),
        Err(CatalogError::Store(StoreError::Missing { .. }))
    ));

    assert_eq!(push(&store, "my_app.tasks", b"one", now).unwrap(), 1);
    assert_eq!(push(&store, "my_app.tasks", b"two", now).unwrap(), 2);
    assert_eq!(push(&store, "my_app.tasks", b"one", now).unwrap(), 1);
    assert_eq!(push(&store, "an_app", b"one", now).unwrap(), 1);
    let names: Vec<_> = catalog
        .list()
        .unwrap()
        .into_iter()
        .map(|module| module.name.to_string())
        .collect();
    assert_eq!(names, ["an_app", "my_app.tasks"]);

    assert!(matches!(
        catalog.activate(&tasks, 3, "a test", Timestamp::UNIX_EPOCH),
        Err(CatalogError::UnknownVersion { number: 3, .. })
    ));
    catalog
        .activate(&tasks, 1, "a test", Timestamp::UNIX_EPOCH)
        .unwrap();
    catalog
        .activate(&tasks, 2, "a test", Timestamp::UNIX_EPOCH)
        .unwrap();
    let module = catalog.show(&tasks).unwrap();
    let active = module.active_version().unwrap();
    assert_eq!(
        (
            active.number,
            active.digest,
            active.size,
            active.uploaded_at
        ),
        (2, Digest::of(b"two"), 3, now)
    );
    assert_eq!(
        catalog
            .rollback(&tasks, "a test", Timestamp::UNIX_EPOCH)
            .unwrap(),
        1
    );
    assert!(matches!(
        catalog.rollback(&tasks, "a test", Timestamp::UNIX_EPOCH),
        Err(CatalogError::NoPrevious { .. })
    ));

    assert!(matches!(
        catalog.remove(&tasks, Some(1), false, now),
        Err(CatalogError::ActiveVersion { number: 1, .. })
    ));
    catalog.remove(&tasks, Some(1), true, now).unwrap();
    assert_eq!(catalog.show(&tasks).unwrap().active, None);
    catalog.remove(&tasks, None, false, now).unwrap();
    assert!(matches!(
        catalog.remove(&tasks, None, false, now),
        Err(CatalogError::UnknownModule { .. })
    ));
    assert_eq!(catalog.list().unwrap().len(), 1);
}

#[test]
fn a_change_is_seen_once_and_by_every_process() {
    let (folder, store, catalog) = new_store();
    assert!(
        catalog
            .changed_since(Generation::default())
            .unwrap()
            .is_none()
    );
    push(&store, "my_app", b"one", Timestamp::now()).unwrap();
    let other = self::store(folder.path()).catalog();
    let seen = other.changed_since(Generation::default()).unwrap().unwrap();
    assert_eq!(seen.modules, catalog.list().unwrap());
    assert!(other.changed_since(seen.generation).unwrap().is_none());

    push(&store, "my_app", b"one", Timestamp::now()).unwrap();
    assert!(
        other.changed_since(seen.generation).unwrap().is_none(),
        "nothing changed"
    );
    for n in 0..20_u8 {
        let number = push(&store, "my_app", &[n], Timestamp::now()).unwrap();
        catalog
            .activate(&name("my_app"), number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    let latest = other.changed_since(seen.generation).unwrap().unwrap();
    assert_eq!(latest.generation, catalog.snapshot().unwrap().generation);
    let states = fs::read_dir(folder.path().join("catalog")).unwrap().count();
    assert!(states <= 9, "{states} states are kept");
}

#[test]
fn components_without_a_version_go_an_hour_later() {
    let (_folder, store, catalog) = new_store();
    let now = Timestamp::now();
    push(&store, "my_app", b"one", now).unwrap();
    push(&store, "other_app", b"one", now).unwrap();
    push(&store, "my_app", b"two", now).unwrap();
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    catalog.remove(&name("my_app"), None, false, now).unwrap();
    assert!(store.get(&two).is_ok(), "fresh");

    let later = now.checked_add(SignedDuration::from_mins(61)).unwrap();
    push(&store, "third_app", b"three", later).unwrap();
    assert!(matches!(store.get(&two), Err(StoreError::Missing { .. })));
    assert!(store.get(&one).is_ok(), "another module names it");
    assert!(matches!(store.schema(&two), Err(StoreError::NoSchema { digest }) if digest == two));
    assert_eq!(store.schema(&one).unwrap(), b"[]");
}

#[test]
fn what_a_crash_leaves_is_ignored_and_removed() {
    let (folder, store, catalog) = new_store();
    push(&store, "my_app", b"one", Timestamp::now()).unwrap();
    let leftover = folder.path().join("temporary/.tmpAbC123");
    fs::write(&leftover, b"half a compo").unwrap();
    fs::write(folder.path().join("catalog/.tmpXyZ"), b"{\"modu").unwrap();
    fs::write(folder.path().join("components/README"), b"a person's").unwrap();
    assert_eq!(catalog.list().unwrap().len(), 1);

    let later = Timestamp::now()
        .checked_add(SignedDuration::from_mins(61))
        .unwrap();
    push(&store, "my_app", b"two", later).unwrap();
    assert!(!leftover.exists());
    assert!(folder.path().join("components/README").exists());
}

#[test]
fn an_unreadable_catalog_is_an_error_that_names_the_file() {
    let (folder, store, catalog) = new_store();
    push(&store, "my_app", b"one", Timestamp::now()).unwrap();
    let path = folder.path().join("catalog/00000007.json");
    fs::write(&path, b"{\"modules\":[],\"more\":1}").unwrap();
    assert!(
        matches!(catalog.list(), Err(CatalogError::Unreadable { path: named, .. }) if named == path)
    );
}

/// Ends the reader, also when the test fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const WRITERS: u32 = 2;
const PUSHES: u32 = 15;

fn push_many(folder: &Path, writer: u32) {
    let store = store(folder);
    for n in 0..PUSHES {
        let number = push(
            &store,
            "shared",
            format!("{writer}/{n}").as_bytes(),
            Timestamp::now(),
        )
        .unwrap();
        store
            .catalog()
            .activate(&name("shared"), number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
}

/// Run by the next test as a process of its own; on its own it does nothing.
#[test]
fn writer_process() {
    if let (Ok(folder), Ok(writer)) = (
        std::env::var("PETIOLE_TEST_STORE"),
        std::env::var("PETIOLE_TEST_WRITER"),
    ) {
        push_many(Path::new(&folder), writer.parse().unwrap());
    }
}

#[test]
fn processes_and_threads_that_write_at_once_lose_nothing() {
    let (folder, _, catalog) = new_store();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finish = Finish(&done);
        let reader = scope.spawn(|| {
            let mut largest = 0;
            while !done.load(Ordering::Relaxed) {
                let count = catalog
                    .list()
                    .unwrap()
                    .first()
                    .map_or(0, |module| module.versions.len());
                assert!(
                    count >= largest,
                    "a reader saw {count} versions after {largest}"
                );
                largest = count;
            }
        });
        let processes: Vec<_> = (0..WRITERS)
            .map(|writer| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "writer_process", "--nocapture"])
                    .env("PETIOLE_TEST_STORE", folder.path())
                    .env("PETIOLE_TEST_WRITER", writer.to_string())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let threads: Vec<_> = (WRITERS..2 * WRITERS)
            .map(|writer| {
                scope.spawn({
                    let path = folder.path();
                    move || push_many(path, writer)
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        drop(finish);
        reader.join().unwrap();
    });

    let module = catalog.show(&name("shared")).unwrap();
    let numbers: Vec<_> = module
        .versions
        .iter()
        .map(|version| version.number)
        .collect();
    assert_eq!(numbers, (1..=2 * WRITERS * PUSHES).collect::<Vec<_>>());
    let store = store(folder.path());
    for version in &module.versions {
        assert!(store.get(&version.digest).is_ok());
    }
    assert_eq!(module.previous.len() + 1, numbers.len());
}
