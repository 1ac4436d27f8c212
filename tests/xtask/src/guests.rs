//! Building the components: the example tasks, and the guests of the tests.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{hostile, step};

/// The manifest of the guests' workspace: the example tasks, and the tests' own.
pub(crate) const MANIFEST: &str = "tasks-wasm/Cargo.toml";
/// Their compilation target.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Builds every Rust guest, and returns the folder of their components.
///
/// # Errors
/// If one of them does not compile.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    step::run(
        step::command("cargo")
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--release",
                "--target",
                TARGET,
                "--manifest-path",
                MANIFEST,
            ])
            .current_dir(root),
    )?;
    hostile::build(root)?;
    Ok(folder(root))
}

/// The folder into which [`build`] puts the components.
pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("target").join(TARGET).join("release")
}

/// Builds the `petiole` binary, and returns its path.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build_petiole(root: &Path, release: bool) -> Result<PathBuf> {
    let mut command = step::command("cargo");
    command
        // The selection of `cargo test --workspace`: another one has other features, and compiles wasmtime again
        // (see also `tests/Cargo.toml`).
        .args(["build", "--workspace", "--bin", "petiole"])
        .current_dir(root);
    if release {
        command.arg("--release");
    }
    step::run(&mut command)?;
    Ok(root
        .join("target")
        .join(if release { "release" } else { "debug" })
        .join("petiole"))
}
