//! Modules and their tasks: pushed, listed, signed; and who may.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use petiole_api::Scope;
use petiole_api::documents::MAX_WAIT;
use serde::Serialize;

use crate::config::from_text;

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

/// Seconds that a push waits.
fn wait(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|wait| *wait <= MAX_WAIT);
    seconds.ok_or_else(|| format!("{text:?} is not a whole number of seconds from 0 to {MAX_WAIT}"))
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
