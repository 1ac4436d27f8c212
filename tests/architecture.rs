//! The picture of the crates in `docs/architecture.md`, held against `cargo metadata`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate of the worker, and those of the others that it may depend on: arrows point down only.
const ARROWS: [(&str, &[&str]); 7] = [
    ("petiole-celery", &[]),
    ("petiole-modules", &[]),
    ("petiole-runtime", &["petiole-celery"]),
    ("petiole-broker", &["petiole-celery"]),
    ("petiole-results", &["petiole-celery"]),
    (
        "petiole-worker",
        &[
            "petiole-celery",
            "petiole-modules",
            "petiole-runtime",
            "petiole-broker",
            "petiole-results",
        ],
    ),
    (
        "petiole-cli",
        &[
            "petiole-celery",
            "petiole-modules",
            "petiole-runtime",
            "petiole-broker",
            "petiole-results",
            "petiole-worker",
        ],
    ),
];

/// Crates of others that are the concern of a few of ours.
const KEEPERS: [(&str, &[&str]); 7] = [
    ("wasmtime", &["petiole-runtime"]),
    ("wasmtime-wasi", &["petiole-runtime"]),
    // the benchmark's measure is lapin without the worker
    ("lapin", &["petiole-broker", "petiole-tests"]),
    ("redis", &["petiole-results"]),
    ("rusqlite", &["petiole-broker", "petiole-results"]),
    ("axum", &["petiole-cli"]),
    ("anyhow", &["petiole-cli", "petiole-tests", "xtask"]),
];

/// What the pure crate must do without.
const NOT_PURE: [&str; 4] = ["tokio", "tracing", "futures", "fastrand"];

/// The dependencies of each crate of the workspace, those of its tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
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
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            (
                name(package),
                dependencies
                    .iter()
                    .filter(|one| one["kind"] != "dev")
                    .map(name)
                    .collect(),
            )
        })
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
fn the_pure_crate_is_pure() {
    let crates = dependencies();
    for dependency in NOT_PURE {
        assert!(
            !crates["petiole-celery"].contains(dependency),
            "petiole-celery uses {dependency}"
        );
    }
}
