//! The command line as it is written. `config` resolves it against the environment and the file.

mod calls;
mod modules;
mod quarantine;
mod worker;

pub(crate) use calls::{CallArgs, ResultArgs, RunArgs, SendArgs};
pub(crate) use modules::{
    ModulesArgs, ModulesCommand, PushArgs, SignArgs, TargetArgs, TasksArgs, TokenArgs,
};
pub(crate) use quarantine::{ChosenArgs, QuarantineArgs, QuarantineCommand};
pub(crate) use worker::{ConfigArgs, ConfigCommand, DevArgs, WorkerArgs};

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
Configuration: defaults, then petiole.toml, then the environment (PETIOLE_BROKER_URL, PETIOLE_RESULT_BACKEND,
PETIOLE_STORE, PETIOLE_HTTP, PETIOLE_TOKEN, ...; CELERY_BROKER_URL and CELERY_RESULT_BACKEND too), then flags.
`petiole config check` prints what came of it, and from where.

Exit codes:
  0  done; for a worker: shut down as asked
  1  the command failed, or the task it ran did
  2  the command line, the configuration or an input is wrong
  3  the broker, the result backend or the key-value storage can't be reached, or refuses (login, permission); or a
     worker's HTTP API can't be reached
  4  not yet: the task has no final state, or not all workers have what was pushed";

/// Runs Celery tasks as sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "petiole", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Configuration file [default: ./petiole.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Consume tasks from a broker and run them
    Worker(WorkerArgs),
    /// Upload a component as a module, and activate it
    Push(PushArgs),
    /// List, show, activate, roll back or remove modules
    Modules(ModulesArgs),
    /// The tasks that can be called: names, typed signatures, docs
    Tasks(TasksArgs),
    /// Send a task
    Send(SendArgs),
    /// Run a function of a component once, here, without a broker
    Run(RunArgs),
    /// A task's state and result
    Result(ResultArgs),
    /// Messages that could not be processed or sent: list, show, send again or drop them
    Quarantine(QuarantineArgs),
    /// A worker on an embedded broker and store, all in one process
    Dev(DevArgs),
    /// Make a token for a worker's HTTP API
    Token(TokenArgs),
    /// Sign a component with its manifest, or make a key pair to sign with
    Sign(SignArgs),
    /// Work on the configuration
    Config(ConfigArgs),
    /// Compiles in a child process with limits of its own
    #[command(hide = true)]
    CompileComponent {
        input: PathBuf,
        output: PathBuf,
        cpu_seconds: u64,
        memory: u64,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
