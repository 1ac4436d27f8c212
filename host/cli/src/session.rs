//! The session file, in which a worker or `petiole dev` with an HTTP API tells the other commands of its folder
//! the API's URL and token and, for `dev`, the embedded broker and results.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{BrokerSettings, ConfigError, FOLDER, Layer, Sources, read_file};

fn dir() -> PathBuf {
    PathBuf::from(FOLDER)
}

/// The file; only its owner may read it, for it holds a token.
pub(crate) fn path() -> PathBuf {
    dir().join("session.toml")
}

/// Makes the folder, for its owner only.
pub(crate) fn make_dir() -> anyhow::Result<PathBuf> {
    let dir = dir();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("can't make the folder {}", dir.display()))?;
    Ok(dir)
}

/// The session of a running process, published while this value lives.
#[derive(Debug)]
pub(crate) struct Session {
    text: String,
}

impl Session {
    /// Writes the file.
    pub(crate) fn start(settings: toml::Table) -> anyhow::Result<Self> {
        make_dir()?;
        let text = format!(
            "# Written by the petiole that runs in this folder; removed when it ends.\n{settings}"
        );
        write(&path(), &text).with_context(|| format!("can't write {}", path().display()))?;
        Ok(Self { text })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that another process has written since is not this one's to remove.
        if std::fs::read_to_string(path()).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(path());
        }
    }
}

/// Replaces the file in one step, so that no reader sees a half of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

/// The settings with key-value storage in this folder's `.petiole`, where they name none: for what runs tasks
/// here to try them.
pub(crate) fn with_keyvalue(sources: Sources) -> Sources {
    let file = dir().join("keyvalue.db");
    let url = format!("sqlite://{}", file.display());
    sources.below(Layer::of("keyvalue", url, dir().display()))
}

/// The settings of a client command: those of this folder's session lie below file and environment.
pub(crate) fn client(sources: Sources) -> Result<Sources, ConfigError> {
    Ok(match read()? {
        Some(session) => sources.below(session),
        None => sources,
    })
}

fn read() -> Result<Option<Layer>, ConfigError> {
    match read_file(&path()) {
        Ok(layer) => Ok(Some(layer)),
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Tells on stderr which broker a command works with, and that it is not that of this folder's `petiole dev` where
/// another setting goes before it.
pub(crate) fn tell_broker(broker: &BrokerSettings) {
    let origin = broker.origins.of("broker");
    eprintln!("broker: {} (from {origin})", broker.url);
    // One that can't be read has ended the command before.
    let session = read().ok().flatten();
    let sessions = session.as_ref().and_then(|session| session.text("broker"));
    if sessions.is_some_and(|sessions| sessions != broker.url.expose()) {
        eprintln!(
            "  not that of the `petiole dev` of this folder ({}): {origin} goes before it",
            path().display()
        );
    }
}
