//! The commands, one file each.

mod call;
mod component_file;
mod config_check;
mod dev;
mod given;
mod modules;
mod node;
mod output;
mod push;
mod quarantine;
mod result;
mod run;
mod send;
mod sign;
mod signature_file;
mod target;
mod tasks;
mod token;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Command, ConfigCommand};
use crate::config::Sources;
use crate::exit::{Failure, Result};
use crate::session;

/// Runs a command; `config` is the configuration file that was named.
pub(crate) fn run(command: Command, config: Option<&Path>) -> Result<ExitCode> {
    let sources = || Sources::read(config).map_err(Failure::usage);
    let client = || session::client(sources()?).map_err(Failure::usage);
    let exit = match command {
        // Runs limited and without an environment: reads no settings.
        Command::CompileComponent {
            input,
            output,
            cpu_seconds,
            memory,
        } => {
            return Ok(petiole_runtime::compile_command(
                &input,
                &output,
                cpu_seconds,
                memory,
            ));
        }
        Command::Worker(args) => worker::run(sources()?, args),
        Command::Dev(args) => dev::run(sources()?, args),
        Command::Push(args) => push::run(client()?, args),
        Command::Modules(args) => modules::run(client()?, args),
        Command::Tasks(args) => tasks::run(client()?, args),
        Command::Send(args) => send::run(client()?, args),
        Command::Quarantine(args) => quarantine::run(client()?, args),
        Command::Result(args) => result::run(client()?, args),
        Command::Run(args) => run::run(sources()?, args),
        Command::Token(args) => token::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Config(args) => match args.command {
            ConfigCommand::Check(args) => config_check::run(sources()?, args),
        },
    }?;
    Ok(exit.into())
}
