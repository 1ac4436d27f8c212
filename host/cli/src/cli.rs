//! The command line as it is written. `config` resolves it against the environment and the file.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use petiole_api::Scope;
use petiole_api::documents::MAX_WAIT;
use petiole_permits::Size;
use serde::Serialize;

use crate::config::{LogFormat, LogLevel, Seconds, from_text};

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

/// The API or the store that a command works on.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct TargetArgs {
    /// A worker's HTTP API, for example http://127.0.0.1:8000
    #[arg(long, value_name = "URL", global = true, conflicts_with = "store")]
    pub to: Option<String>,
    /// The store itself: file://DIR; workers that share it follow within a second
    #[arg(long, value_name = "URL", global = true)]
    pub store: Option<String>,
    /// Authority that the API's certificate has to be from: a PEM file [default: the system's authorities]
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
}

/// Scopes, with the help for each.
fn scopes() -> impl TypedValueParser<Value = Scope> {
    let value = |scope: Scope| {
        let help = match scope {
            Scope::Upload => "Push modules, which makes them active",
            Scope::Read => "Modules, tasks, results and metrics",
            Scope::Send => "Send tasks, and read their results",
            Scope::Admin => "Everything",
        };
        PossibleValue::new(scope.as_str()).help(help)
    };
    PossibleValuesParser::new(Scope::ALL.map(value)).try_map(|text| {
        let mut all = Scope::ALL.into_iter();
        let scope = all.find(|scope| scope.as_str() == text);
        scope.ok_or("there is no such scope")
    })
}

/// Seconds that a push waits.
fn wait(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|wait| *wait <= MAX_WAIT);
    seconds.ok_or_else(|| format!("{text:?} is not a whole number of seconds from 0 to {MAX_WAIT}"))
}

fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a time with its zone, for example 2026-11-22T15:00:00Z")
    })
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The component
    pub file: PathBuf,
    /// The module's name: a function `run-task` of module my_app.tasks is the task my_app.tasks.run_task
    #[arg(long, value_name = "MODULE")]
    pub name: String,
    /// A TOML file that says what the tasks ask for, and renames them or sets their limits
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Its signature, as `petiole sign` and minisign make it [default: FILE.minisig, where there is one]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Seconds to wait for all workers of the store to have it, at most 120; where they do not by then, the exit code
    /// is 4 [default: 10, with exit code 0 in any case]
    #[arg(long, value_name = "SECONDS", value_parser = wait)]
    pub wait: Option<u64>,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// As the audit names it, for example ci
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// A scope that it opens; may be given several times
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        required = true,
        value_delimiter = ',',
        value_parser = scopes()
    )]
    pub scopes: Vec<Scope>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The component; its signature becomes FILE.minisig
    #[arg(required_unless_present = "generate", conflicts_with = "generate")]
    pub file: Option<PathBuf>,
    /// The secret key: of minisign, or made by --generate. A password is asked for, or taken from
    /// PETIOLE_KEY_PASSWORD
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
    /// The manifest that it will be pushed with: the signature is for both
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub manifest: Option<PathBuf>,
    /// Good for a module of this name only
    #[arg(long, value_name = "MODULE", conflicts_with = "generate")]
    pub name: Option<String>,
    /// Make a key pair: the secret key KEY, and the public key KEY.pub for the worker's signatures.keys
    #[arg(long)]
    pub generate: bool,
    /// With --generate: a secret key without a password
    #[arg(long, requires = "generate")]
    pub no_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModulesArgs {
    #[command(subcommand)]
    pub command: ModulesCommand,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModulesCommand {
    /// All modules and their active versions
    List,
    /// The versions of one module
    Show {
        /// The module's name
        name: String,
    },
    /// Make a version the active one
    Activate {
        /// The module's name
        name: String,
        /// As `petiole modules show` lists it
        #[arg(value_parser = from_text::<u32>)]
        version: u32,
    },
    /// Back to the version that was active before
    Rollback {
        /// The module's name
        name: String,
    },
    /// Remove a module, or one version of it; the tasks of an active one are unknown from then on
    Remove {
        /// The module's name
        name: String,
        /// Only this version
        #[arg(value_parser = from_text::<u32>)]
        version: Option<u32>,
        /// Although it is active
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TasksArgs {
    /// Only this task, or those that match this glob
    pub name: Option<String>,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

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
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
    /// amqp://, pyamqp://, amqps:// (several separated by `;`), or sqlite://PATH
    #[arg(short, long, value_name = "URL", global = true)]
    pub broker: Option<String>,
    /// The queue that keeps them [default: petiole.quarantine]
    #[arg(long, value_name = "QUEUE", global = true)]
    pub quarantine_queue: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Messages that are kept, the oldest first
    List {
        /// At most this many
        #[arg(long, value_name = "N", default_value = "100", value_parser = from_text::<std::num::NonZeroU16>)]
        limit: std::num::NonZeroU16,
    },
    /// One message: properties, headers, body, and why it is kept
    Show {
        /// As `petiole quarantine list` prints it: the message's, or its task's
        id: String,
    },
    /// Send a message to where it was to go or came from, and remove it from quarantine
    Retry(ChosenArgs),
    /// Remove a message for good
    Drop(ChosenArgs),
}

/// One message, or all of them.
#[derive(Debug, Args)]
pub(crate) struct ChosenArgs {
    /// As `petiole quarantine list` prints it: the message's, or its task's
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,
    /// All that are there now, instead of one
    #[arg(long)]
    pub all: bool,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
