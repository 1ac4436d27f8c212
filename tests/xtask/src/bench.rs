//! `cargo xtask bench`: what a sandbox costs, and throughput beside a raw lapin loop and beside Celery.

use std::path::Path;

use anyhow::Result;

use crate::machine::{self, Need};
use crate::node::{Data, Node};
use crate::{guests, step};

/// The amount to measure, and the binary.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Messages for each figure.
    pub(crate) messages: u32,
    release: bool,
}

impl Size {
    /// Enough for meaningful figures.
    pub(crate) const FULL: Self = Self {
        messages: 50_000,
        release: true,
    };
    /// Part of every test run: shows that the benchmark works.
    pub(crate) const SMALL: Self = Self {
        messages: 5_000,
        release: false,
    };
}

/// Sets everything up, and prints the figures.
///
/// # Errors
/// If the set-up or a measurement fails.
pub(crate) fn run(root: &Path, messages: u32) -> Result<()> {
    machine::prepare(root, &Need::NODES)?;
    guests::build(root)?;
    costs(root, true)?;
    let (amqp, redis) = (Node::rabbitmq(root, Data::Disk)?, Node::redis(root)?);
    print(
        root,
        &amqp.url,
        &redis.url,
        Size {
            messages,
            ..Size::FULL
        },
    )
}

/// The tests that print what a sandbox costs.
const COSTS: [&str; 4] = [
    "costs::the_cost_of_a_call",
    "costs::the_cost_of_a_mebibyte",
    "costs::the_neighbours_of_spinning_guests",
    "costs::a_thousand_parked_guests",
];

/// Prints what a sandbox costs, alone and among others. The guests have to be built.
///
/// # Errors
/// If that can't be measured.
pub(crate) fn costs(root: &Path, release: bool) -> Result<()> {
    let mut test = step::command("cargo");
    test.args(["test", "--quiet", "--workspace", "--test", "runtime"])
        .args(release.then_some("--release"))
        .args(["--", "--exact", "--nocapture", "--test-threads=1"])
        .args(COSTS)
        // would make each task slower
        .env("RUST_BACKTRACE", "0")
        .current_dir(root);
    step::run(&mut test)
}

/// Prints the figures, measured on the given nodes.
///
/// # Errors
/// If a measurement fails.
pub(crate) fn print(root: &Path, amqp: &str, redis: &str, size: Size) -> Result<()> {
    let petiole = guests::build_petiole(root, size.release)?;
    let mut lapin = step::command("cargo");
    lapin
        .args(["build", "--quiet", "--workspace", "--bin", "raw_lapin"])
        .current_dir(root);
    if size.release {
        lapin.arg("--release");
    }
    step::run(&mut lapin)?;
    if !size.release {
        println!(
            "(the tests' own build of the worker: `cargo xtask bench` measures the release build)"
        );
    }
    step::run(
        step::command(machine::python(root))
            .arg(root.join("tests/benches/throughput.py"))
            .args(["--messages", &size.messages.to_string(), "--raw-lapin"])
            .arg(petiole.with_file_name("raw_lapin"))
            .env("PETIOLE_BIN", &petiole)
            .env("PETIOLE_TEST_AMQP_URL", amqp)
            .env("PETIOLE_TEST_REDIS_URL", redis)
            .env("PETIOLE_TEST_COMPONENTS", guests::folder(root))
            .current_dir(root),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_costs_are_tests_that_exist() {
        let code = include_str!("../../../host/runtime/tests/runtime/costs.rs");
        for cost in COSTS {
            let name = cost.trim_start_matches("costs::");
            assert!(code.contains(&format!("fn {name}(")), "{cost}");
        }
    }
}
