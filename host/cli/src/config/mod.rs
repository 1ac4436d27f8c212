//! Configuration: a section for each subsystem, read from the layers put together: defaults, file, environment, flags.

mod broker;
mod client;
mod env;
mod error;
mod file;
mod flags;
mod grants;
mod http;
mod key;
mod layer;
mod limits;
mod log;
mod machine;
mod modules;
mod node;
mod results;
mod setting;
mod show;
#[cfg(test)]
mod tests;
mod units;
mod url;
mod values;
mod worker;

pub(crate) use broker::BrokerSettings;
pub(crate) use client::ClientSettings;
pub(crate) use error::ConfigError;
pub(crate) use flags::Flags;
pub(crate) use grants::{GrantSettings, Outside};
pub(crate) use http::{HttpSettings, check_token_name};
pub(crate) use layer::Layer;
pub(crate) use modules::{FOLDER, ModuleSettings, is_key};
pub(crate) use results::ResultSettings;
pub(crate) use setting::from_text;
pub(crate) use units::{LogFormat, LogLevel, Seconds};
pub(crate) use url::{api_url, is_loopback};

use std::path::{Path, PathBuf};

use key::Key;
use layer::{Merged, Origins, Values};
use limits::LimitSettings;
use log::LogSettings;
use worker::WorkerSettings;

/// The file that is read when `--config` names none.
const FILE: &str = "petiole.toml";

/// The layers below the flags, the lowest first.
pub(crate) struct Sources(Vec<Layer>);

/// The configuration that a command runs with, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub broker: BrokerSettings,
    pub worker: WorkerSettings,
    pub results: ResultSettings,
    pub modules: ModuleSettings,
    pub client: ClientSettings,
    pub log: LogSettings,
    pub grants: GrantSettings,
    pub http: HttpSettings,
    pub limits: LimitSettings,
}

/// All settings, in the order in which they are shown.
fn keys() -> Vec<Key> {
    [
        BrokerSettings::keys(),
        WorkerSettings::keys(),
        ResultSettings::keys(),
        ModuleSettings::keys(),
        ClientSettings::keys(),
        LogSettings::keys(),
        GrantSettings::keys(),
        HttpSettings::keys(),
        LimitSettings::keys(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A file's settings.
pub(crate) fn read_file(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    file::read(path, &text, &keys())
}

impl Sources {
    /// Reads the file and the environment.
    pub(crate) fn read(config: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match config {
            Some(path) => Some(path.to_owned()),
            None => Path::new(FILE).exists().then(|| PathBuf::from(FILE)),
        };
        let mut layers = Vec::new();
        if let Some(path) = file {
            layers.push(read_file(&path)?);
        }
        layers.push(env::read(&keys(), |name| std::env::var_os(name))?);
        Ok(Self(layers))
    }

    /// Puts a layer below all others: the session of a `petiole dev` or worker of this folder.
    pub(crate) fn below(mut self, layer: Layer) -> Self {
        self.0.insert(0, layer);
        self
    }

    /// Puts the flags on top, and resolves.
    pub(crate) fn resolve(mut self, flags: Flags) -> Result<Config, ConfigError> {
        self.0.push(flags.layer(&keys())?);
        Config::new(self.0)
    }
}

impl Config {
    fn new(layers: Vec<Layer>) -> Result<Self, ConfigError> {
        let merged = Merged::new(layers, &keys());
        let worker = WorkerSettings::resolve(&merged)?;
        // First: where the budget is too small, so are the limits that follow from it.
        worker.check()?;
        let config = Self {
            broker: BrokerSettings::read(&merged)?,
            results: ResultSettings::read(&merged)?,
            modules: ModuleSettings::resolve(&merged)?,
            client: ClientSettings::read(&merged)?,
            log: LogSettings::read(&merged)?,
            grants: GrantSettings::read(&merged)?,
            http: HttpSettings::read(&merged)?,
            limits: LimitSettings::resolve(&merged, &worker)?,
            worker,
        };
        config.broker.check()?;
        config.modules.check()?;
        config.client.check()?;
        config.grants.check()?;
        config.http.check()?;
        Ok(config)
    }

    /// Checks that the URLs of broker and results can be used, and the certificates and keys that URLs name be read.
    /// They concern only commands that connect.
    pub(crate) fn check_servers(&self) -> Result<(), ConfigError> {
        self.broker.check_url()?;
        self.results.check_url()?;
        self.broker.check_files()?;
        self.results.check_files()?;
        self.grants.check_files()
    }

    fn values(&self) -> Values {
        [
            self.broker.values(),
            self.worker.values(),
            self.results.values(),
            self.modules.values(),
            self.client.values(),
            self.log.values(),
            self.grants.values(),
            self.http.values(),
            self.limits.values(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn origins(&self) -> &Origins {
        &self.limits.origins
    }

    /// The text of `petiole config check`; passwords, tokens and secrets are `***`.
    pub(crate) fn show(&self) -> String {
        show::show(&keys(), &self.values(), self.origins())
    }
}
