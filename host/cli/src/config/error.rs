use std::path::PathBuf;

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
