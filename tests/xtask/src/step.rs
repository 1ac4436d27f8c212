//! Commands that are run as named steps.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command without the variables that `cargo run` has set for this process: some build scripts (ring's)
/// take a change of them for a reason to build again.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end.
///
/// # Errors
/// If it can't be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command, and returns what it prints.
///
/// # Errors
/// If it can't be started, fails, or prints anything but text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().map(OsStr::to_string_lossy) {
        let plain = !argument.is_empty()
            && argument
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./:=+,@".contains(c));
        let _ = if plain {
            write!(line, " {argument}")
        } else {
            write!(line, " '{argument}'")
        };
    }
    line
}

/// Steps, each of which is run even if one before it has failed.
#[derive(Default)]
pub(crate) struct Steps {
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    done: Vec<(String, Duration, Result<()>)>,
    left_out: Vec<(String, String)>,
}

impl Steps {
    /// Runs a step, and prints its name before it and its time after it.
    pub(crate) fn step(&self, name: &str, step: impl FnOnce() -> Result<()>) {
        println!("\n==> {name}");
        let start = Instant::now();
        let result = step();
        let time = start.elapsed();
        match &result {
            Ok(()) => println!("<== {name}: {:.1} s", time.as_secs_f64()),
            Err(error) => println!(
                "<== {name}: FAILED after {:.1} s: {error:#}",
                time.as_secs_f64()
            ),
        }
        self.listed().done.push((name.to_owned(), time, result));
    }

    /// Does two things at once, each of which may be several steps.
    pub(crate) fn side_by_side(
        &self,
        first: impl FnOnce(&Self) + Send,
        second: impl FnOnce(&Self) + Send,
    ) {
        std::thread::scope(|scope| {
            scope.spawn(|| first(self));
            second(self);
        });
    }

    /// True if one of them has failed so far.
    pub(crate) fn has_failed(&self) -> bool {
        self.listed()
            .done
            .iter()
            .any(|(.., result)| result.is_err())
    }

    /// Says of a step that it can't be run here, and why, now and in the list.
    pub(crate) fn left_out(&self, name: &str, why: &str) {
        println!("\n{}", left_out(name, why));
        let left_out = (name.to_owned(), why.to_owned());
        self.listed().left_out.push(left_out);
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the list of the steps.
    ///
    /// # Errors
    /// If one of them has failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\nsteps:");
        let mut failed = Vec::new();
        let listed = self.listed();
        for (name, time, result) in &listed.done {
            let state = if result.is_ok() { "ok" } else { "FAILED" };
            println!("  {state:<6} {:>7.1} s  {name}", time.as_secs_f64());
            if result.is_err() {
                failed.push(name.as_str());
            }
        }
        for (name, why) in &listed.left_out {
            println!("  {}", left_out(name, why));
        }
        if failed.is_empty() {
            Ok(())
        } else {
            bail!("failed: {}", failed.join(", "))
        }
    }
}

fn left_out(name: &str, why: &str) -> String {
    format!("LEFT OUT  {name}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_so_that_it_can_be_typed() {
        let mut command = Command::new("petiole");
        command.args(["send", "my_app.tasks.run_task", "--args", "[1000]", ""]);
        assert_eq!(
            show(&command),
            "petiole send my_app.tasks.run_task --args '[1000]' ''"
        );
    }

    #[test]
    fn a_failed_step_is_named_and_the_others_run() {
        let steps = Steps::default();
        steps.side_by_side(
            |steps| steps.step("first", || run(&mut Command::new("false"))),
            |steps| steps.step("beside it", || Ok(())),
        );
        steps.step("second", || Ok(()));
        assert!(steps.has_failed());
        let error = steps.finish().err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("failed: first"));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program"))
            .err()
            .map(|error| format!("{error:#}"));
        assert!(error.is_some_and(|error| error.contains("no-such-program")));
    }
}
