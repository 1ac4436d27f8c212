//! Configuration: each layer as it is written (file, environment, flags), and what they resolve to.

mod check;
mod env;
mod file;
mod flags;
mod http;
mod keys;
mod layer;
mod limits;
mod machine;
mod node;
mod outside;
mod resolve;
mod show;
mod units;
mod url;
mod values;
mod wants;

pub(crate) use file::Written;
pub(crate) use http::{HttpSettings, check_token_name, is_key};
pub(crate) use outside::Outside;
pub(crate) use resolve::Resolved;
pub(crate) use show::show;
pub(crate) use units::{LogFormat, LogLevel, Seconds};
pub(crate) use url::{api_url, is_loopback};
pub(crate) use wants::from_text;

use std::path::{Path, PathBuf};

use layer::Layer;

/// The file that is read when `--config` names none.
const FILE: &str = "petiole.toml";

/// Where the layers below the flags come from.
pub(crate) struct Sources {
    layers: Vec<Layer>,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file named can't be read.
    #[error("can't read the configuration file {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of another type; the text names the line.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A value that can't be used, and which of the layers has it.
    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },
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
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            layers.push(Layer::file(&path, Written::parse(&path, &text)?));
        }
        layers.push(env::read(|name| std::env::var_os(name))?);
        Ok(Self { layers })
    }

    /// Puts a layer below all others: what a `petiole dev` or worker of this folder says of itself.
    pub(crate) fn below(mut self, origin: &Path, written: Written) -> Self {
        self.layers.insert(0, Layer::file(origin, written));
        self
    }

    /// Puts the flags on top, and resolves.
    pub(crate) fn resolve(mut self, flags: Written) -> Result<Resolved, ConfigError> {
        self.layers.push(Layer::flags(flags));
        Resolved::new(&self.layers)
    }
}
