//! A worker, `petiole dev`, and the options that other commands have of them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use petiole_permits::Size;
use serde::Serialize;

use crate::config::{LogFormat, LogLevel, Seconds, from_text};

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct BrokerArgs {
    /// amqp://, pyamqp://, amqps:// (several separated by `;`), or sqlite://PATH
    #[arg(short, long, value_name = "URL")]
    pub broker: Option<String>,
    /// Queue for tasks of this name: GLOB=QUEUE, for example 'shop.*=python'; the first that matches
    #[arg(long = "route", value_name = "GLOB=QUEUE")]
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Queue for tasks that no route names [default: celery]
    #[arg(long, value_name = "QUEUE")]
    pub default_queue: Option<String>,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct ResultsArgs {
    /// redis://, rediss://, sentinel://, rpc://, sqlite://PATH or disabled:// [default: disabled://]
    #[arg(long, value_name = "URL")]
    pub results: Option<String>,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub results: ResultsArgs,
    /// Store of the modules: file://DIR [default: file://.petiole/modules]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub node: NodeArgs,
}

/// Options that a worker and `petiole dev` have in common.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct NodeArgs {
    /// Queues to consume from, separated by commas [default: celery]
    #[arg(short = 'Q', long, value_name = "QUEUES", value_delimiter = ',')]
    pub queues: Option<Vec<String>>,
    /// Tasks that run at once [default: 16 for each core]
    #[arg(short, long, value_name = "N", value_parser = from_text::<std::num::NonZeroU16>)]
    pub concurrency: Option<std::num::NonZeroU16>,
    /// Messages reserved for each task that may run at once [default: 4]
    #[arg(long, value_name = "N", value_parser = from_text::<std::num::NonZeroU16>)]
    pub prefetch_multiplier: Option<std::num::NonZeroU16>,
    /// Serve the HTTP API here, for example 127.0.0.1:8000
    #[arg(long, value_name = "ADDR", value_parser = from_text::<std::net::SocketAddr>)]
    pub http: Option<std::net::SocketAddr>,
    /// Node name; %h is the host's name, %n its first part, %d the rest [default: celery@%h]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// debug, info, warning, error or critical [default: info]
    #[arg(short, long, value_name = "LEVEL", ignore_case = true)]
    pub loglevel: Option<LogLevel>,
    /// plain (Celery's lines, local time) or json [default: plain]
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    pub log_format: Option<LogFormat>,
    #[command(flatten)]
    #[serde(flatten)]
    pub limits: LimitArgs,
    /// Time for which results are kept, in seconds [default: 86400]
    #[arg(long, value_name = "S")]
    pub result_expires: Option<Seconds>,
    /// Store a task's name, arguments, worker and queue with its result, and what it used
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub result_extended: bool,
    /// Queue that keeps what can't be processed [default: petiole.quarantine]
    #[arg(long, value_name = "QUEUE")]
    pub quarantine_queue: Option<String>,
    /// Time that a warm shutdown waits for running tasks before it turns cold, in seconds [default: 600]
    #[arg(long, value_name = "S")]
    pub soft_shutdown_timeout: Option<Seconds>,
}

/// Limits of a task whose manifest says nothing; petiole.toml has more of them.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct LimitArgs {
    /// Wall time after which a task is ended, in seconds [default: 300]
    #[arg(long, value_name = "S")]
    pub time_limit: Option<Seconds>,
    /// Wall time after which a task is told to end, in seconds [default: none]
    #[arg(long, value_name = "S")]
    pub soft_time_limit: Option<Seconds>,
    /// Time on a CPU after which a task is ended, in seconds [default: 300]
    #[arg(long, value_name = "S")]
    pub cpu_time_limit: Option<Seconds>,
    /// Time on a CPU after which a task is told to end, in seconds [default: none]
    #[arg(long, value_name = "S")]
    pub soft_cpu_time_limit: Option<Seconds>,
    /// Memory of a task, for example 256MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Components to push at the start: my_app.wasm becomes the module my_app.tasks, with the manifest my_app.toml
    /// where there is one
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the resolved configuration and where each value comes from, secrets redacted
    Check(WorkerArgs),
}
