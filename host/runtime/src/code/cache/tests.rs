//! Caches of three entries.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::code::cache::Cache;
use crate::code::cache::capacity::{CODE_FILE, Capacity};
use crate::code::cache::entry::{Entry, MAC_FILE};
use crate::code::cache::error::CacheError;

const CAPACITY: Capacity = Capacity {
    entries: 3,
    bytes: 1000,
};

fn new_cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open_with(&dir.path().join("cache"), CAPACITY).unwrap();
    (dir, cache)
}

fn write(entry: &Entry, code: &[u8]) {
    let new = entry.new_entry().unwrap();
    fs::write(new.code(), code).unwrap();
    new.rename().unwrap();
}

/// Stores, as if it had been used so long ago.
fn store(cache: &Cache, wasm: &[u8], code: &[u8], seconds_ago: u64) -> Entry {
    let entry = Entry::of(cache, &Sha256::digest(wasm).into());
    write(&entry, code);
    let used = SystemTime::now() - Duration::from_secs(seconds_ago);
    fs::File::open(entry.dir())
        .and_then(|dir| dir.set_modified(used))
        .unwrap();
    entry
}

fn is_there(entry: &Entry) -> bool {
    entry.verify().unwrap().is_some()
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let (_dir, cache) = new_cache();
    let [one, two, three] =
        [(1, 50), (2, 40), (3, 30)].map(|(n, ago)| store(&cache, &[n], b"code", ago));
    // Used again.
    assert!(is_there(&one));
    let four = store(&cache, &[4], b"code", 0);
    assert_eq!(
        [&one, &two, &three, &four].map(is_there),
        [true, false, true, true]
    );
}

#[test]
fn the_bytes_in_all_are_bounded_but_the_newest_stays() {
    let (_dir, cache) = new_cache();
    let one = store(&cache, b"1", &[1; 600], 20);
    let two = store(&cache, b"2", &[2; 600], 10);
    assert_eq!([&one, &two].map(is_there), [false, true]);
    let large = store(&cache, b"3", &[3; 5000], 0);
    assert_eq!([&two, &large].map(is_there), [false, true]);
}

#[test]
fn another_components_code_is_no_entry() {
    let (_dir, cache) = new_cache();
    let one = store(&cache, b"1", b"one", 0);
    let two = store(&cache, b"2", b"two", 0);
    let aside = cache.dir().join("aside");
    fs::rename(one.dir(), &aside).unwrap();
    fs::rename(two.dir(), one.dir()).unwrap();
    fs::rename(&aside, two.dir()).unwrap();
    assert_eq!([&one, &two].map(is_there), [false, false]);
    assert!(!one.dir().exists(), "it is deleted, and compiled again");
}

#[test]
fn damage_of_any_kind_is_found() {
    type Damage = fn(&Path);
    let kinds: [(&str, Damage); 6] = [
        ("cut off", |dir| {
            let code = fs::read(dir.join(CODE_FILE)).unwrap();
            fs::write(dir.join(CODE_FILE), &code[..code.len() - 1]).unwrap();
        }),
        ("longer", |dir| {
            let mut code = fs::read(dir.join(CODE_FILE)).unwrap();
            code.push(0);
            fs::write(dir.join(CODE_FILE), code).unwrap();
        }),
        ("no code", |dir| {
            fs::remove_file(dir.join(CODE_FILE)).unwrap()
        }),
        ("no mac", |dir| fs::remove_file(dir.join(MAC_FILE)).unwrap()),
        ("short mac", |dir| {
            fs::write(dir.join(MAC_FILE), [0]).unwrap()
        }),
        ("folder", |dir| {
            fs::remove_file(dir.join(CODE_FILE)).unwrap();
            fs::create_dir(dir.join(CODE_FILE)).unwrap();
        }),
    ];
    for (kind, damage) in kinds {
        let (_dir, cache) = new_cache();
        let entry = store(&cache, b"1", b"one", 0);
        assert!(is_there(&entry));
        damage(&entry.dir());
        assert!(!is_there(&entry), "{kind}");
        write(&entry, b"one");
        assert!(is_there(&entry), "{kind}: made again");
    }
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let (_dir, cache) = new_cache();
    let entry = store(&cache, b"1", b"one", 7200);
    for (name, hours) in [("new-a", 2), ("new-b", 2), ("new-c", 0)] {
        let dir = cache.dir().join(name);
        fs::create_dir(&dir).unwrap();
        let used = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(&dir)
            .and_then(|dir| dir.set_modified(used))
            .unwrap();
    }
    let again = Cache::open_with(cache.dir(), CAPACITY).unwrap();
    assert!(!again.dir().join("new-a").exists() && !again.dir().join("new-b").exists());
    assert!(again.dir().join("new-c").exists(), "it may be at work");
    assert!(is_there(&entry));
}

#[test]
fn what_is_being_made_is_not_removed_however_long_it_takes() {
    let (_dir, cache) = new_cache();
    let entry = Entry::of(&cache, &Sha256::digest(b"1").into());
    let new = entry.new_entry().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let code = new.code();
    let open_again = || {
        fs::File::open(code.parent().unwrap())
            .and_then(|dir| dir.set_modified(long_ago))
            .unwrap();
        Cache::open_with(cache.dir(), CAPACITY).unwrap();
    };
    open_again();
    fs::write(&code, b"one").unwrap();
    new.rename().unwrap();
    assert!(is_there(&entry));
    // The same folder, which nobody holds.
    fs::create_dir(code.parent().unwrap()).unwrap();
    fs::write(&code, b"one").unwrap();
    open_again();
    assert!(!code.exists());
}

#[test]
fn an_entry_that_appears_is_not_taken_for_damaged() {
    let (_dir, cache) = new_cache();
    let entry = store(&cache, b"1", b"one", 0);
    let aside = cache.dir().join("aside");
    for _ in 0..1000 {
        fs::rename(entry.dir(), &aside).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| fs::rename(&aside, entry.dir()).unwrap());
            while !other.is_finished() {
                entry.verify().unwrap();
            }
        });
        assert!(is_there(&entry));
    }
}

#[test]
fn damage_that_two_find_is_deleted_once() {
    let (_dir, cache) = new_cache();
    let entry = Entry::of(&cache, &Sha256::digest(b"1").into());
    for _ in 0..100 {
        fs::create_dir(entry.dir()).unwrap();
        fs::write(entry.dir().join(CODE_FILE), b"one").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(!is_there(&entry)));
            assert!(!is_there(&entry));
        });
        assert!(!entry.dir().exists());
    }
}

#[test]
fn a_folder_of_another_user_is_refused() {
    // Only root can make one, and only root's tests see the difference between the two.
    if !rustix::process::geteuid().is_root() {
        let error = Cache::open(Path::new("/")).unwrap_err();
        assert!(
            matches!(error, CacheError::NotOwned { owner: 0, .. }),
            "{error}"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65_534), None).unwrap();
    let error = Cache::open(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::NotOwned {
                owner: 65_534,
                user: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_folder_that_can_not_be_written_is_told() {
    for dir in ["/proc/petiole-cache", "/dev/null/cache"] {
        let error = Cache::open(Path::new(dir)).unwrap_err();
        assert!(matches!(error, CacheError::Io { .. }), "{error}");
        assert!(error.to_string().contains(dir), "{error}");
    }
}
