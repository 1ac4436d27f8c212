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
mod open;
mod session;
mod signals;
mod tables;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tikv_jemallocator::Jemalloc;

/// Gives memory back by itself: glibc's allocator keeps hundreds of megabytes of small pieces that large tasks have left.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Options of the allocator (jemalloc(3)): unused memory goes back after a second, by a thread of its own.
#[allow(unsafe_code, reason = "the name that jemalloc reads")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 63] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000\0";

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    // Fails where there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_descriptors();
    commands::run(cli.command, cli.config.as_deref()).unwrap_or_else(exit::Failure::report)
}

/// Raises the soft limit of file descriptors to the hard one: its default is of a time when programs could not stand more.
fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Refused nowhere but where a filter of system calls forbids it; then there are as many as before.
    let _ = setrlimit(Resource::Nofile, raised);
}
