//! `petiole`: the worker and the tools around it, on one command line.

mod api;
mod banner;
mod check;
mod cli;
mod client;
mod client_tls;
mod commands;
mod config;
mod executor;
mod exit;
mod logging;
mod memory;
mod open;
mod session;
mod signals;
mod tables;
mod wait;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;

/// Variables of a process that speaks to a broker: glibc reads them, and its allocator then does not hold on to the
/// memory of a large message or upload (mallopt(3): by default each block of up to 32 MiB that is freed raises its
/// thresholds).
fn variables() -> [(&'static str, String); 2] {
    let mib = 1024 * 1024;
    [
        ("MALLOC_MMAP_THRESHOLD_", mib.to_string()),
        ("MALLOC_TRIM_THRESHOLD_", mib.to_string()),
    ]
}

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    // Fails where there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if cli.command.connects() {
        start_again_with_variables();
    }
    commands::run(cli.command, cli.config.as_deref()).unwrap_or_else(exit::Failure::report)
}

/// glibc reads them at the start only. Where the system does not let us start again, the memory is kept.
fn start_again_with_variables() {
    let missing = variables()
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none());
    let missing: Vec<_> = missing.collect();
    if let Some(program) = std::env::current_exe().ok().filter(|_| !missing.is_empty()) {
        let _ = Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(missing)
            .exec();
    }
}
