//! `cargo xtask test`: every check and test, on private nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::{self, Need};
use crate::node::{Data, Node};
use crate::step::{self, Steps};
use crate::{bench, deny, guests};

/// pytest's exit code.
const NO_TESTS_COLLECTED: i32 = 5;
/// Several files of pytest at once: most tests wait most of their time.
const SIDE_BY_SIDE: [&str; 4] = ["--numprocesses", "3", "--dist", "loadfile"];

/// Selects the same features as [`guests::build_petiole`].
const TESTS: [&str; 3] = ["test", "--quiet", "--workspace"];

/// Runs every check and test, or the tests whose name contains `filter`.
///
/// # Errors
/// If the machine can't be set up, nothing can be built, or a step has failed.
pub(crate) fn run(root: &Path, filter: Option<&str>) -> Result<()> {
    machine::prepare(root, &Need::ALL)?;
    let steps = Steps::default();
    let whole = filter.is_none();
    steps.side_by_side(
        |steps| steps.step("guests", || guests::build(root).map(drop)),
        |steps| {
            // Not only for its binary: the test binaries find its dependencies compiled.
            steps.step("petiole", || guests::build_petiole(root, false).map(drop));
            steps.step("tests", || {
                step::run(cargo(root).args(TESTS).arg("--no-run"))
            });
        },
    );
    // Otherwise the tests would run what an earlier build has left.
    if steps.has_failed() {
        return steps.finish();
    }
    if whole {
        formatting(root, &steps);
        deny::check(root, &steps);
    }
    let nodes = Nodes::start(root)?;
    if nodes.others.len() < machine::SUITES.len() {
        let here = "not all of those that the tests know can be had on this machine";
        steps.left_out("other RabbitMQs", here);
    }
    steps.side_by_side(
        |steps| {
            if whole && !nodes.others.is_empty() {
                steps.step("broker conformance, other RabbitMQs", || {
                    on_each(&nodes.others, |rabbitmq| brokers_of(root, rabbitmq))
                });
            }
        },
        |steps| {
            let mut tests = cargo(root);
            tests.args(TESTS).arg("--no-fail-fast").args(filter);
            steps.step("cargo test", || step::run(nodes.seen_by(&mut tests)));
        },
    );
    if whole {
        steps.step("costs of a sandbox", || bench::costs(root, false));
        steps.step("bench, small", || {
            bench::print(root, &nodes.amqp.url, &nodes.redis.url, bench::Size::SMALL)
        });
    }
    steps.side_by_side(
        |steps| {
            guests_tests(root, filter, steps);
            if whole {
                lints(root, steps);
                examples_in_other_languages(root, steps);
            }
        },
        |steps| system_tests(root, &nodes, filter, steps),
    );
    steps.step("pytest tests/system, alone", || {
        pytest(root, &nodes, &["-m", "alone"], filter)
    });
    steps.finish()
}

/// Runs the tests that inject faults, about this many in all.
///
/// # Errors
/// If the machine can't be set up, or anything is lost.
pub(crate) fn faults(root: &Path, faults: u32) -> Result<()> {
    machine::prepare(root, &Need::NODES)?;
    guests::build(root)?;
    guests::build_petiole(root, false)?;
    let nodes = Nodes::start(root)?;
    let versions = u32::try_from(nodes.others.len() + 1)?;
    let mut command = step::command(machine::python(root));
    command
        .args([
            "-m",
            "pytest",
            "tests/system",
            "-k",
            "killed or test_faults",
            "--timeout",
            "0",
        ])
        .args(SIDE_BY_SIDE)
        .current_dir(root)
        // of a worker, at each kind of queue; on each version a fifth of it
        .env("PETIOLE_KILLS", (faults / 50).to_string())
        // of the tests of each version: what all of them inject is some 2.2 times as many
        .env("PETIOLE_FAULTS", (faults / 32 * 15 / versions).to_string());
    step::run(nodes.seen_by(&mut command))
}

/// The servers of one run.
struct Nodes<'a> {
    root: &'a Path,
    amqp: Node,
    redis: Node,
    /// Folders of unpacked RabbitMQs of other versions than this machine's own.
    others: Vec<PathBuf>,
}

impl<'a> Nodes<'a> {
    fn start(root: &'a Path) -> Result<Self> {
        let others = machine::other_rabbitmqs(root)?;
        println!("\nprivate nodes:");
        let (amqp, redis) = (Node::rabbitmq(root, Data::Memory)?, Node::redis(root)?);
        println!("  {}\n  {}", amqp.url, redis.url);
        Ok(Self {
            root,
            amqp,
            redis,
            others,
        })
    }

    /// Tells the tests where to find everything.
    fn seen_by<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("PETIOLE_TEST_AMQP_URL", &self.amqp.url)
            .env("PETIOLE_TEST_REDIS_URL", &self.redis.url)
            .env("PETIOLE_TEST_COMPONENTS", guests::folder(self.root))
            .env(
                "PETIOLE_TEST_RABBITMQS",
                std::env::join_paths(&self.others).unwrap_or_default(),
            )
            .env("PETIOLE_BIN", self.root.join("target/debug/petiole"))
    }
}

/// Runs a test on all of them at once, as most of it is waiting.
fn on_each(rabbitmqs: &[PathBuf], test: impl Fn(&Path) -> Result<()> + Sync) -> Result<()> {
    let test = &test;
    std::thread::scope(|scope| {
        let running: Vec<_> = rabbitmqs
            .iter()
            .map(|one| scope.spawn(move || test(one)))
            .collect();
        running
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|_| bail!("it panicked")))
    })
}

/// The broker crate's tests on another RabbitMQ.
fn brokers_of(root: &Path, rabbitmq: &Path) -> Result<()> {
    let mut tests = cargo(root);
    tests
        .args(["test", "--quiet", "--workspace", "--test", "conformance"])
        .args([
            "--", "amqp", "memory", "refusals", "tls", "--skip", "embedded", "--skip", "redis",
        ])
        .env_remove("PETIOLE_TEST_AMQP_URL")
        .env("PETIOLE_TEST_RABBITMQ", rabbitmq);
    step::run(&mut tests).with_context(|| {
        let version = std::fs::read_to_string(rabbitmq.join("version")).unwrap_or_default();
        format!("RabbitMQ {}", version.trim())
    })
}

fn formatting(root: &Path, steps: &Steps) {
    steps.step("cargo fmt", || {
        step::run(cargo(root).args(["fmt", "--all", "--check"]))?;
        step::run(cargo(root).args([
            "fmt",
            "--all",
            "--check",
            "--manifest-path",
            guests::MANIFEST,
        ]))
    });
}

fn lints(root: &Path, steps: &Steps) {
    steps.step("cargo clippy", || {
        step::run(beside(root).args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    steps.step("cargo clippy, guests", || {
        step::run(
            beside(root)
                .args([
                    "clippy",
                    "--quiet",
                    "--workspace",
                    "--release",
                    "--target",
                    guests::TARGET,
                ])
                .args(["--manifest-path", guests::MANIFEST, "--", "-D", "warnings"]),
        )
    });
    steps.step("cargo doc", || {
        step::run(
            beside(root)
                .args(["doc", "--quiet", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
}

/// Runs their functions' own tests; the system tests run their components.
fn examples_in_other_languages(root: &Path, steps: &Steps) {
    let tasks = root.join("tasks-wasm");
    steps.step("unittest, python_invoice", || {
        let mut python = step::command(machine::python(root));
        python.args(["-m", "unittest"]);
        step::run(python.current_dir(tasks.join("python_invoice")))
    });
    steps.step("cc, c_checksum", || {
        let test = root.join("target/test_checksum");
        let mut compiler = step::command("cc");
        compiler.args([
            "-Wall",
            "-Wextra",
            "-Werror",
            "test_checksum.c",
            "checksum.c",
        ]);
        step::run(
            compiler
                .arg("-o")
                .arg(&test)
                .current_dir(tasks.join("c_checksum")),
        )?;
        step::run(&mut step::command(test))
    });
    if machine::on_path("node") {
        steps.step("node --test, javascript_pricing", || {
            let mut node = step::command("node");
            step::run(
                node.arg("--test")
                    .current_dir(tasks.join("javascript_pricing")),
            )
        });
    } else {
        steps.left_out("node --test, javascript_pricing", "no node here");
    }
}

/// A cargo of low priority, for builds beside tests.
fn beside(root: &Path) -> Command {
    let mut command = step::command("nice");
    command.args(["-n", "19", "cargo"]).current_dir(root);
    command
}

fn cargo(root: &Path) -> Command {
    let mut command = step::command("cargo");
    command.current_dir(root);
    command
}

fn guests_tests(root: &Path, filter: Option<&str>, steps: &Steps) {
    let mut tests = beside(root);
    tests
        .args(TESTS)
        // its examples are no programs of this machine
        .args(["--exclude", "hostile", "--manifest-path", guests::MANIFEST])
        .args(filter);
    steps.step("cargo test, guests", || step::run(&mut tests));
}

/// The system tests that do not measure.
fn system_tests(root: &Path, nodes: &Nodes<'_>, filter: Option<&str>, steps: &Steps) {
    let together = [&["-m", "not alone"], SIDE_BY_SIDE.as_slice()].concat();
    steps.step("pytest tests/system", || {
        pytest(root, nodes, &together, filter)
    });
}

fn pytest(root: &Path, nodes: &Nodes<'_>, which: &[&str], filter: Option<&str>) -> Result<()> {
    let mut command = step::command(machine::python(root));
    command
        .args(["-m", "pytest", "tests/system"])
        .args(which)
        .current_dir(root);
    nodes.seen_by(&mut command);
    let Some(filter) = filter else {
        return step::run(&mut command);
    };
    let status = command.args(["-k", filter]).status()?;
    // A filter may be for other tests alone.
    if !status.success() && status.code() != Some(NO_TESTS_COLLECTED) {
        bail!("pytest failed: {status}");
    }
    Ok(())
}
