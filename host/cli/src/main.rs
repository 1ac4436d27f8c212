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

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    commands::run(cli.command, cli.config.as_deref()).unwrap_or_else(exit::Failure::report)
}
