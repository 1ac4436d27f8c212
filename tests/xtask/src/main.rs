//! Sets a machine up, and runs the demo, the tests and the benchmark: `cargo xtask`.

mod bench;
mod demo;
mod deny;
mod guests;
mod hostile;
mod machine;
mod node;
mod step;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Sets this machine up, and runs Petiole's demo, tests and benchmark.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a task, its result and its callbacks as they happen.
    Demo {
        /// On a private RabbitMQ node and Redis, with a real Celery producer.
        #[arg(long)]
        rabbitmq: bool,
    },
    /// Installs what is missing, starts private RabbitMQ and Redis nodes, and runs every test.
    Test {
        /// Only the Rust and Python tests whose name contains this.
        filter: Option<String>,
    },
    /// Injects faults under load, on each RabbitMQ that is at hand, and prints what became of the tasks: kills of workers
    /// and brokers, cut connections, refused and unsendable messages, alarms, failovers of Redis, races for a module.
    Faults {
        /// The approximate number of faults in all; a sixteenth of them are kills.
        #[arg(long, default_value_t = 10_000)]
        faults: u32,
    },
    /// Prints what a sandbox costs, and throughput beside a raw lapin loop and beside Celery, on the same broker.
    Bench {
        /// Messages for each figure.
        #[arg(long, default_value_t = bench::Size::FULL.messages)]
        messages: u32,
    },
    /// Builds the example tasks and the test guests.
    Guests,
    /// Checks the dependencies: licences, sources, bans, and advisories where RustSec's database can be had.
    Deny,
}

fn main() -> ExitCode {
    let done = root().and_then(|root| match Cli::parse().command {
        Command::Demo { rabbitmq } => demo::run(&root, rabbitmq),
        Command::Test { filter } => test::run(&root, filter.as_deref()),
        Command::Faults { faults } => test::faults(&root, faults),
        Command::Bench { messages } => bench::run(&root, messages),
        Command::Deny => deny::run(&root),
        Command::Guests => machine::prepare(&root, &[machine::Need::WasmTarget])
            .and_then(|()| guests::build(&root))
            .map(|folder| println!("components are in {}", folder.display())),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's folder.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .context("xtask is no longer in tests/xtask")
}
