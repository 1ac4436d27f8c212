//! `[env]` and `[secrets]`: where a value is, and reading it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use petiole_api::check_private;
use petiole_permits::REDACTED;
use serde::{Deserialize, Serialize};

use super::setting::Setting;

/// The largest file of a value, in bytes: 64 KiB. Keys and certificates are a few KiB.
const MAX_FILE: u64 = 64 << 10;

/// The folder in which systemd puts a unit's credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The source of a value: `"text"`, or a table with one key that says where it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a text, { env = \"VARIABLE\" }, { file = \"PATH\" } or { credential = \"NAME\" }"
)]
pub(crate) enum Source {
    Text(String),
    At(Place),
}

/// The place of a value that is not written here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// This variable of the worker's own environment.
    Env(String),
    /// This file's content, without a newline at its end.
    File(PathBuf),
    /// The credential of this name that systemd gave the worker.
    Credential(String),
}

/// Decides if others than the worker's user may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    Public,
    Secret,
}

impl Source {
    /// Reads the value; `var` looks a variable up. The error names no value.
    pub(crate) fn read(
        &self,
        privacy: Privacy,
        var: impl Fn(&str) -> Option<OsString>,
    ) -> Result<String, String> {
        let variable = |name: &str| {
            var(name)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("the environment variable {name} is not set"))
        };
        let value = match self {
            Self::Text(text) => text.clone(),
            Self::At(Place::Env(name)) => variable(name)?
                .into_string()
                .map_err(|_| format!("the environment variable {name} is not UTF-8"))?,
            Self::At(Place::File(path)) => read_file(path, privacy)?,
            Self::At(Place::Credential(name)) => {
                if name.is_empty() || name.contains('/') || name.starts_with('.') {
                    return Err(format!("{name:?} is not the name of a credential"));
                }
                let folder = variable(CREDENTIALS).map_err(|reason| {
                    format!(
                        "credential {name}: {reason}: name it in the systemd unit (LoadCredential=)"
                    )
                })?;
                // systemd shows them to the unit's user only.
                read_file(&Path::new(&folder).join(name), Privacy::Public)?
            }
        };
        if value.contains('\0') {
            return Err("has a NUL in it, which no environment variable can have".to_owned());
        }
        Ok(value)
    }
}

impl Setting for BTreeMap<String, Source> {
    fn start_at(&mut self, folder: &Path) {
        for source in self.values_mut() {
            if let Source::At(Place::File(file)) = source {
                file.start_at(folder);
            }
        }
    }
}

fn read_file(path: &Path, privacy: Privacy) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    // Before it is opened: opening a pipe waits for whoever writes to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut file = std::fs::File::open(path).map_err(failed)?;
    if privacy == Privacy::Secret {
        check_private(path, &file.metadata().map_err(failed)?)?;
    }
    let mut bytes = Vec::new();
    file.by_ref()
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > usize::try_from(MAX_FILE).unwrap_or(usize::MAX) {
        return Err(format!(
            "{} has more than the {MAX_FILE} bytes that a value may have",
            path.display()
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Shows no text: it may be a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => write!(f, "Text({REDACTED})"),
            Self::At(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(source: &str, privacy: Privacy, folder: &Path) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Table {
            source: Source,
        }
        let text = format!("source = {source}").replace("FOLDER", folder.to_str().unwrap());
        let table: Table = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        table.source.read(privacy, |name| match name {
            "PASSWORD" => Some("from-env".into()),
            "EMPTY" => Some("".into()),
            CREDENTIALS => Some(folder.join("credentials").into()),
            _ => None,
        })
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("credentials")).unwrap();
        for (name, content, mode) in [
            ("secret", &b"from-file\n"[..], 0o600),
            ("crlf", b"two\nlines\r\n", 0o600),
            ("open", b"from-file", 0o644),
            ("group", b"from-file", 0o640),
            ("binary", b"\xff", 0o600),
            ("nul", b"a\0b", 0o600),
            ("large", &[b'x'; 65_537], 0o600),
            ("credentials/db", b"from-systemd\n", 0o400),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    #[test]
    fn a_value_is_read_where_it_is() {
        let dir = folder();
        for (source, value) in [
            ("'plain'", "plain"),
            ("{ env = 'PASSWORD' }", "from-env"),
            ("{ file = 'FOLDER/secret' }", "from-file"),
            ("{ file = 'FOLDER/crlf' }", "two\nlines"),
            ("{ credential = 'db' }", "from-systemd"),
        ] {
            let read = read(source, Privacy::Secret, dir.path());
            assert_eq!(read.as_deref(), Ok(value), "{source}");
        }
    }

    #[test]
    fn what_can_not_be_read_says_why() {
        let dir = folder();
        for (source, reason) in [
            ("{ env = 'MISSING' }", "MISSING is not set"),
            ("{ env = 'EMPTY' }", "EMPTY is not set"),
            ("{ file = 'FOLDER/missing' }", "No such file"),
            ("{ file = 'FOLDER' }", "is not a file"),
            ("{ file = '/dev/null' }", "is not a file"),
            ("{ file = 'FOLDER/open' }", "mode 644): chmod 600"),
            ("{ file = 'FOLDER/group' }", "mode 640): chmod 600"),
            ("{ file = 'FOLDER/binary' }", "not UTF-8"),
            ("{ file = 'FOLDER/nul' }", "NUL"),
            ("{ file = 'FOLDER/large' }", "65536 bytes"),
            (
                "{ credential = '../secret' }",
                "not the name of a credential",
            ),
            ("{ credential = 'other' }", "No such file"),
            ("{ fil = 'x' }", "{ file = \"PATH\" }"),
            ("{ env = 'A', file = 'B' }", "{ file = \"PATH\" }"),
            ("5", "a text, { env = \"VARIABLE\" }"),
        ] {
            let read = read(source, Privacy::Secret, dir.path());
            let error = read.unwrap_err();
            assert!(error.contains(reason), "{source}: {error}");
            assert!(!error.contains("from-"), "{source}: {error}");
        }
        // A file without secrets may be open to all.
        let read = read("{ file = 'FOLDER/open' }", Privacy::Public, dir.path());
        assert_eq!(read.as_deref(), Ok("from-file"));
    }

    #[test]
    fn a_secret_s_text_is_not_shown() {
        let text = Source::Text("hush".to_owned());
        assert_eq!(format!("{text:?}"), "Text(***)");
    }
}
