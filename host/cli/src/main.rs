//! `petiole`: the worker and the tools around it, on one command line.

mod api;
mod banner;
mod cli;
mod commands;
mod config;
mod exit;
mod http;
mod logging;
mod open;
mod send;
mod session;
mod signals;
mod tables;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

/// The standard library reads the stack size of new threads from it.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    if cli.command.connects() && std::env::var_os(STACK_VARIABLE).is_none() {
        start_again_with_large_stacks();
    }
    commands::run(cli.command, cli.config.as_deref()).unwrap_or_else(exit::Failure::report)
}

/// lapin reads a message's headers by recursion, on a thread that only this variable gives a larger stack
/// to: without it, one message with deeply nested headers ends the process. Where the system does not let
/// us start again, the broker warns of it.
fn start_again_with_large_stacks() {
    if let Ok(program) = std::env::current_exe() {
        let _ = Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(STACK_VARIABLE, petiole_broker::IO_STACK.to_string())
            .exec();
    }
}
