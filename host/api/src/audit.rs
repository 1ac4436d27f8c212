//! The audit: who changed which module, and who was refused. Each entry is a line of JSON, in the file of the
//! setting `audit` and in the log, under the target `petiole::audit`.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use petiole_modules::Digest;
use petiole_permits::Capabilities;
use petiole_worker::{Installed, TaskGrants};
use serde::Serialize;
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::documents::CapabilitiesDocument;

/// The characters of a text that are written: a request's path or a reason may be long.
const MAX_TEXT: usize = 500;

/// The place for entries. A clone writes to the same one.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    file: Option<Arc<Path>>,
}

/// The kind of a change, made or refused.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// A component came in, to be active.
    Upload,
    /// A version was named to be the active one.
    Activate,
    /// Back to the version before.
    Rollback,
    /// A module, or a version of one, was to go.
    Remove,
    /// Any request that was turned away at the door.
    Request,
}

/// The end of it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done,
    Refused,
}

/// One line, but for when and who.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    action: Action,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// By task: what it asks for and what it is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Value>,
    /// Method and path.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    actor: &'a Actor,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Audit {
    /// Checks that the file can be written, or made; it is not made.
    ///
    /// # Errors
    /// When it can't.
    pub fn check(file: &Path) -> io::Result<()> {
        match OpenOptions::new().append(true).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = file
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                can_be_made_in(folder.unwrap_or(Path::new(".")))
            }
            opened => opened.map(drop),
        }
    }

    /// Entries go to this file too, which is made where it is missing, for its owner only.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn open(file: Option<&Path>) -> io::Result<Self> {
        if let Some(file) = file {
            append(file, b"")?;
        }
        Ok(Self {
            file: file.map(Arc::from),
        })
    }

    /// Writes an entry. The log says when the file can't be written any more, and has the entry too.
    pub(crate) fn record(&self, actor: &Actor, entry: &Entry) {
        let time = Timestamp::now().to_string();
        let line = match line(&Line { time, actor, entry }) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(target: "petiole", "an audit entry can't be written as JSON: {error}");
                return;
            }
        };
        tracing::info!(target: "petiole::audit", "{}", line.trim_end());
        // Opened each time, so that the file may be rotated.
        if let Some(file) = &self.file
            && let Err(error) = append(file, line.as_bytes())
        {
            tracing::error!(target: "petiole", "can't write the audit file {}: {error}", file.display());
        }
    }

    /// [`record`](Self::record) for those who must not block.
    pub(crate) async fn record_async(&self, actor: Actor, entry: Entry) {
        let audit = self.clone();
        let written = tokio::task::spawn_blocking(move || audit.record(&actor, &entry)).await;
        if let Err(error) = written {
            tracing::error!(target: "petiole", "an audit entry was cut off: {error}");
        }
    }
}

fn can_be_made_in(folder: &Path) -> io::Result<()> {
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::access(folder, access)?)
}

/// One write, so that lines of several processes do not mix.
fn append(file: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?
        .write_all(bytes)
}

impl Entry {
    /// Something that was done to a module.
    pub(crate) fn done(action: Action, module: &str, version: Option<u32>) -> Self {
        Self {
            outcome: Outcome::Done,
            version,
            ..Self::refused(action, Some(module), None)
        }
    }

    /// Something that was not.
    pub(crate) fn refused(action: Action, module: Option<&str>, reason: Option<String>) -> Self {
        Self {
            action,
            outcome: Outcome::Refused,
            module: module.map(beginning),
            version: None,
            sha256: None,
            manifest_sha256: None,
            signed_by: None,
            capabilities: None,
            request: None,
            reason: reason.as_deref().map(beginning),
        }
    }

    /// A request that was turned away.
    pub(crate) fn turned_away(method: &str, path: &str, reason: String) -> Self {
        Self {
            request: Some(beginning(&format!("{method} {path}"))),
            ..Self::refused(Action::Request, None, Some(reason))
        }
    }

    /// An upload, and what came of it.
    pub(crate) fn upload(
        module: &str,
        component: Digest,
        manifest: &str,
        installed: &Result<Installed, impl Display>,
    ) -> Self {
        let entry = match installed {
            Ok(installed) => Self {
                signed_by: installed.signed_by.map(|key| key.to_string()),
                capabilities: capabilities(installed),
                ..Self::done(Action::Upload, module, Some(installed.version))
            },
            Err(error) => Self::refused(Action::Upload, Some(module), Some(error.to_string())),
        };
        Self {
            sha256: Some(component),
            manifest_sha256: (!manifest.is_empty()).then(|| Digest::of(manifest.as_bytes())),
            ..entry
        }
    }
}

/// The wishes of tasks beyond their sandboxes, granted and refused; with the tasks that ask for the same.
fn capabilities(installed: &Installed) -> Option<Value> {
    let mut asking: Vec<(&Arc<TaskGrants>, Vec<&str>)> = Vec::new();
    for task in &installed.tasks {
        match asking
            .iter_mut()
            .find(|(one, _)| Arc::ptr_eq(one, &task.grants))
        {
            Some((_, tasks)) => tasks.push(&task.name),
            None => asking.push((&task.grants, vec![&task.name])),
        }
    }
    let entries = asking
        .into_iter()
        .filter(|(grants, _)| grants.asked != Capabilities::default())
        .map(|(grants, tasks)| {
            let CapabilitiesDocument {
                asked,
                granted,
                refused,
            } = CapabilitiesDocument::from(&**grants);
            json!({"tasks": tasks, "asked": asked, "granted": granted, "refused": refused})
        });
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then_some(Value::Array(entries))
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// JSON in ASCII alone, so that no terminal or log viewer is driven by what a name holds.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                write!(out, "{c}")?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

fn line(line: &Line<'_>) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    line.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, Ascii,
    ))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| serde::ser::Error::custom(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(file: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.is_ascii(), "{text}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn an_entry_is_one_line_whatever_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let audit = Audit::open(Some(&file)).unwrap();
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let actor = Actor {
            certificate: Some("CN=\u{202e}evil\u{1b}[2J\u{7f}\n{\"forged\":1}😀".into()),
            address: Some([127, 0, 0, 1].into()),
            ..Actor::default()
        };
        let long = "é".repeat(10_000);
        audit.record(&actor, &Entry::turned_away("GET", &long, "no token".into()));
        // Rotated away: the next entry is in a new file.
        std::fs::rename(&file, dir.path().join("audit.1")).unwrap();
        audit.record(&actor, &Entry::done(Action::Rollback, "a.b", Some(3)));
        let [first] = &written(&dir.path().join("audit.1"))[..] else {
            panic!("one line")
        };
        assert_eq!(first["certificate"], actor.certificate.as_deref().unwrap());
        assert_eq!(
            first["request"].as_str().unwrap().chars().count(),
            MAX_TEXT + "...".len()
        );
        assert_eq!(
            (&first["outcome"], &first["token"]),
            (&"refused".into(), &Value::Null)
        );
        let [second] = &written(&file)[..] else {
            panic!("one line")
        };
        assert_eq!(
            (&second["action"], &second["module"], &second["version"]),
            (&"rollback".into(), &"a.b".into(), &3.into())
        );
    }

    #[test]
    fn a_file_that_can_not_be_written_is_told_at_the_start() {
        assert!(Audit::open(Some(Path::new("/nonexistent/audit"))).is_err());
    }
}
