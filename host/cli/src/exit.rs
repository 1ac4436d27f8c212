//! Exit codes, which scripts rely on, and the error that carries one to `main`.

use std::process::ExitCode;

use petiole_api::{AdministrationError, Kind};
use petiole_permits::url::redact_text;
use petiole_worker::causes;

use crate::logging::escaped;

/// The process's exit code; listed in `petiole --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// The command failed, or the task it ran did.
    Failed = 1,
    /// The command line, the configuration or a file given is wrong: running it again is no use.
    Usage = 2,
    /// The broker, the result backend or the key-value storage can't be reached, or refuses; or a worker's HTTP API
    /// can't be reached.
    Unreachable = 3,
    /// Not yet: the task has no final state, or not all workers have what was pushed.
    Pending = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code that it ends the process with.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

/// The result of every command.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

impl Failure {
    /// The command line, the configuration or an input is wrong.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Usage,
            error: error.into(),
        }
    }

    /// A service can't be reached.
    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Unreachable,
            error: error.into(),
        }
    }

    /// Anything else.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Failed,
            error: error.into(),
        }
    }

    /// Prints the error with its causes.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("error: {}", shown(&causes(&*self.error)));
        self.exit.into()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&causes(&*self.error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(error)
    }
}

impl From<AdministrationError> for Failure {
    fn from(error: AdministrationError) -> Self {
        match error.kind() {
            Kind::Malformed | Kind::Unknown | Kind::Conflict | Kind::Refused => Self::usage(error),
            Kind::Busy | Kind::NotFollowed | Kind::Host => Self::failed(error),
        }
    }
}

/// The text, which may quote a manifest or an answer of others: it can't drive a terminal, and its further lines
/// don't begin as ours do. Nor does it show a URL's password.
fn shown(text: &str) -> String {
    let lines: Vec<_> = redact_text(text).lines().map(escaped).collect();
    lines.join("\n  ")
}

/// Prints clap's message; `--help` and `--version` are no errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let shown = redact_text(&text);
    if shown == text {
        // In colours; nothing is left to do when the terminal has gone.
        let _ = error.print();
    } else {
        eprint!("{shown}");
    }
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Ok.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("no such file")
            .context("can't read a.wasm: no such file")
            .context("push");
        assert_eq!(causes(&*error), "push: can't read a.wasm: no such file");
    }

    #[test]
    fn what_is_quoted_does_not_drive_the_terminal() {
        let error = anyhow::anyhow!("key \x1b[2Jx\rok\u{202e}\nerror: forged").context("push");
        assert_eq!(
            shown(&causes(&*error)),
            "push: key \\u{1b}[2Jx\\rok\\u{202e}\n  error: forged"
        );
    }
}
