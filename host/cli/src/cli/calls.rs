//! Calls of tasks, and their results.

use std::path::PathBuf;

use clap::Args;

use super::worker::{BrokerArgs, LimitArgs, ResultsArgs};
use crate::config::Seconds;

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// Positional arguments: a JSON array
    #[arg(
        long,
        value_name = "JSON",
        default_value = "[]",
        hide_default_value = true
    )]
    pub args: String,
    /// Keyword arguments: a JSON object
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        hide_default_value = true
    )]
    pub kwargs: String,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The task's name
    pub task: String,
    #[command(flatten)]
    pub call: CallArgs,
    /// Called with the result when the task has succeeded
    #[arg(long, value_name = "TASK")]
    pub link: Vec<String>,
    /// Called with the task's id when the task has failed
    #[arg(long, value_name = "TASK")]
    pub link_error: Vec<String>,
    /// The queue to send to; otherwise the routes say
    #[arg(short = 'Q', long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Not before this many seconds from now
    #[arg(long, value_name = "S", conflicts_with = "eta")]
    pub countdown: Option<Seconds>,
    /// Not before this time, for example 2026-11-22T15:00:00Z
    #[arg(long, value_name = "T", value_parser = time)]
    pub eta: Option<jiff::Timestamp>,
    /// Not after this many seconds from now
    #[arg(long, value_name = "S")]
    pub expires: Option<Seconds>,
    /// Wait for the result and print it
    #[arg(long)]
    pub wait: bool,
    /// Time to wait, in seconds
    #[arg(long, value_name = "S", default_value = "60", requires = "wait")]
    pub timeout: Seconds,
    #[command(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    pub results: ResultsArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a time with its zone, for example 2026-11-22T15:00:00Z")
    })
}

#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// The task's id, as `petiole send` prints it
    pub task_id: String,
    #[command(flatten)]
    pub results: ResultsArgs,
    /// Wait until the task has ended
    #[arg(long)]
    pub wait: bool,
    /// Time to wait, in seconds
    #[arg(long, value_name = "S", default_value = "60", requires = "wait")]
    pub timeout: Seconds,
    /// Print everything that is stored, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The component
    pub file: PathBuf,
    /// The function, in snake_case or kebab-case; without one, the functions are listed
    pub function: Option<String>,
    #[command(flatten)]
    pub call: CallArgs,
    /// The manifest that `petiole push` would take along; without one, the task asks for nothing
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The module that it would be, for [grants] [default: FILE without .wasm, and .tasks]
    #[arg(long, value_name = "MODULE")]
    pub name: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Tell on stderr what the task used
    #[arg(short, long)]
    pub verbose: bool,
}
