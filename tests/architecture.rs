//! Claims of the docs about the tree, held against the tree: the picture of the crates against `cargo metadata`, the
//! tests that promises name against the tests there are.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate of the worker, and those of the others that it may depend on: arrows point down only.
const ARROWS: [(&str, &[&str]); 10] = [
    ("petiole-celery", &[]),
    ("petiole-permits", &[]),
    ("petiole-tls", &[]),
    ("petiole-modules", &["petiole-permits"]),
    ("petiole-runtime", &["petiole-celery", "petiole-permits"]),
    (
        "petiole-storage",
        &["petiole-celery", "petiole-permits", "petiole-tls"],
    ),
    (
        "petiole-broker",
        &[
            "petiole-celery",
            "petiole-permits",
            "petiole-storage",
            "petiole-tls",
        ],
    ),
    (
        "petiole-worker",
        &[
            "petiole-celery",
            "petiole-permits",
            "petiole-modules",
            "petiole-runtime",
            "petiole-broker",
            "petiole-storage",
        ],
    ),
    (
        "petiole-api",
        &[
            "petiole-celery",
            "petiole-permits",
            "petiole-modules",
            "petiole-runtime",
            "petiole-broker",
            "petiole-storage",
            "petiole-worker",
        ],
    ),
    (
        "petiole-cli",
        &[
            "petiole-api",
            "petiole-celery",
            "petiole-permits",
            "petiole-modules",
            "petiole-runtime",
            "petiole-broker",
            "petiole-storage",
            "petiole-worker",
        ],
    ),
];

/// Crates of others that only a few of ours may depend on.
const KEEPERS: [(&str, &[&str]); 11] = [
    ("wasmtime", &["petiole-runtime"]),
    ("wasmtime-wasi", &["petiole-runtime"]),
    ("wasmtime-wasi-http", &["petiole-runtime"]),
    // the HTTP API has limits that axum's own server can't be given
    ("hyper", &["petiole-api", "petiole-runtime"]),
    // the benchmark's measure is lapin without the worker
    ("lapin", &["petiole-broker", "petiole-tests"]),
    ("redis", &["petiole-storage"]),
    ("rusqlite", &["petiole-storage"]),
    ("axum", &["petiole-api"]),
    ("governor", &["petiole-api"]),
    ("x509-parser", &["petiole-api"]),
    ("anyhow", &["petiole-cli", "petiole-tests", "xtask"]),
];

/// Crates that the pure crates must do without.
const NOT_PURE: [&str; 4] = ["tokio", "tracing", "futures", "fastrand"];

/// The packages of the workspace, as `cargo metadata` has them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The dependencies of each crate of the workspace, those of its tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let lasting = dependencies.iter().filter(|one| one["kind"] != "dev");
        lasting.map(name).collect()
    };
    packages()
        .iter()
        .map(|package| (name(package), of(package)))
        .collect()
}

#[test]
fn arrows_point_down() {
    let crates = dependencies();
    let guests = BTreeSet::from(["petiole", "petiole-macros"]);
    let host: BTreeSet<_> = crates
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("petiole") && !guests.contains(name))
        .collect();
    let drawn: BTreeSet<_> = ARROWS
        .iter()
        .map(|(name, _)| *name)
        .chain(["petiole-tests"])
        .collect();
    assert_eq!(
        host, drawn,
        "a crate is missing in ARROWS, or in the workspace"
    );

    for (name, allowed) in ARROWS {
        let ours: Vec<_> = crates[name]
            .iter()
            .filter(|one| crates.contains_key(*one))
            .collect();
        for one in ours {
            assert!(
                allowed.contains(&one.as_str()),
                "{name} may not depend on {one}"
            );
        }
    }
    for name in guests {
        let ours = crates[name]
            .iter()
            .find(|one| crates.contains_key(*one) && *one != "petiole-macros");
        assert_eq!(ours, None, "{name} is for guests");
    }
}

#[test]
fn a_heavy_dependency_stays_where_it_belongs() {
    let crates = dependencies();
    for (dependency, keepers) in KEEPERS {
        let users: BTreeSet<_> = crates
            .iter()
            .filter(|(_, uses)| uses.contains(dependency))
            .map(|(name, _)| name.as_str())
            .collect();
        let keepers = BTreeSet::from_iter(keepers.iter().copied());
        assert!(
            users.is_subset(&keepers),
            "{dependency} is for {keepers:?}, not for all of {users:?}"
        );
        assert!(!users.is_empty(), "nobody uses {dependency}");
    }
}

#[test]
fn the_pure_crates_are_pure() {
    let crates = dependencies();
    for pure in ["petiole-celery", "petiole-permits"] {
        for dependency in NOT_PURE {
            assert!(
                !crates[pure].contains(dependency),
                "{pure} uses {dependency}"
            );
        }
    }
}

#[test]
fn no_circle_spans_more_than_two_files() {
    let folders = fs::read_dir(root().join("host")).unwrap();
    let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.push(root().join("guest-sdk"));
    let mut found = Vec::new();
    for folder in &folders {
        let roots = ["src/lib.rs", "src/main.rs"].map(|name| folder.join(name));
        for file in roots.iter().filter(|file| file.exists()) {
            found.extend(circles::circles(file));
        }
    }
    found.retain(|circle| circle.len() > 2);
    assert!(found.is_empty(), "files that need each other: {found:#?}");
}

/// Lines of code that a file may have, without tests of its own below them.
const MOST_LINES: usize = 400;

#[test]
fn a_file_is_read_in_one_sitting() {
    let mut long = Vec::new();
    for file in rust_files(&root().join("host")) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let is_test = name.contains("/tests") || name.ends_with("tests.rs");
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("mod tests {").next().unwrap();
        let lines = code.lines().count();
        if lines > MOST_LINES && !is_test {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    assert!(
        long.is_empty(),
        "files of more than {MOST_LINES} lines: {long:#?}"
    );
}

/// Packages that name dependencies for the features they select: the manifest says why.
const SELECT_FEATURES: [&str; 1] = ["petiole-tests"];

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| match path.extension() {
        _ if path.is_dir() => rust_files(&path),
        Some(extension) if extension == "rs" => vec![path],
        _ => Vec::new(),
    });
    files.collect()
}

#[test]
fn no_dependency_is_unused() {
    let mut unused = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        if SELECT_FEATURES.contains(&name) {
            continue;
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let files = rust_files(manifest.parent().unwrap());
        let text: String = files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        for dependency in package["dependencies"].as_array().unwrap() {
            let rename = dependency["rename"].as_str();
            let dependency = rename.or(dependency["name"].as_str()).unwrap();
            let path = format!("{}::", dependency.replace('-', "_"));
            let within = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let mut found = text.match_indices(&path);
            if found.all(|(at, _)| text[..at].ends_with(within)) {
                unused.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert!(
        unused.is_empty(),
        "dependencies that no file names: {unused:?}"
    );
}

/// The documents whose tables name the test that holds a promise.
const PROMISES: [&str; 7] = [
    "docs/architecture.md",
    "docs/capabilities.md",
    "docs/operations.md",
    "docs/semantics.md",
    "docs/security.md",
    "docs/uploads.md",
    "tests/README.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The code spans of a line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_test_file(span: &str) -> bool {
    span.contains('/') && (span.ends_with(".rs") || span.ends_with(".py"))
}

fn is_test_name(span: &str) -> bool {
    span.contains('_')
        && span
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// The promises of a document: the rows of tables that end in the names of tests, `FILE`: `TEST`, `TEST`; ...
fn promises(document: &str) -> Vec<(String, Vec<(PathBuf, String)>)> {
    let mut promises = Vec::new();
    let mut in_table = false;
    for line in document.lines() {
        if line.starts_with("| ") && line.contains("Held by") {
            in_table = true;
            continue;
        }
        in_table &= line.starts_with('|');
        if !in_table || line.starts_with("| ---") {
            continue;
        }
        let tests = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let (mut file, mut named) = (None, Vec::new());
        for span in code_spans(tests) {
            if is_test_file(span) {
                file = Some(root().join(span));
            } else if is_test_name(span) {
                let file = file
                    .clone()
                    .unwrap_or_else(|| panic!("{span} stands after no file: {line}"));
                named.push((file, span.to_owned()));
            }
        }
        promises.push((line.to_owned(), named));
    }
    promises
}

/// Finds a test of this name: a function of pytest's, one with a test's attribute, or a case of a suite, listed in
/// `suite!` or in the `main.rs` or `mod.rs` beside it.
fn is_test(file: &Path, code: &str, name: &str) -> bool {
    if file.extension().is_some_and(|it| it == "py") {
        return name.starts_with("test_") && code.contains(&format!("def {name}("));
    }
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.contains(&function)) else {
        return false;
    };
    let above = lines[..at].iter().rev();
    let mut above = above.take_while(|line| !line.is_empty() && **line != "}");
    above.any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
        || lines.contains(&format!("{name},").as_str())
        || file.ends_with("suite.rs")
            && ["main.rs", "mod.rs"].iter().any(|beside| {
                fs::read_to_string(file.with_file_name(beside))
                    .is_ok_and(|list| list.lines().any(|line| line.trim() == name))
            })
}

#[test]
fn each_promise_names_tests_that_exist() {
    for document in PROMISES {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let promises = promises(&text);
        assert!(
            !promises.is_empty(),
            "{document} has no table with a column \"Held by\""
        );
        for (promise, tests) in promises {
            assert!(!tests.is_empty(), "{document}: no test holds {promise}");
            for (file, test) in tests {
                let code = fs::read_to_string(&file)
                    .unwrap_or_else(|error| panic!("{document} names {}: {error}", file.display()));
                assert!(
                    is_test(&file, &code, &test),
                    "{document} names {test}, which is no test of {}",
                    file.display()
                );
            }
        }
    }
}
