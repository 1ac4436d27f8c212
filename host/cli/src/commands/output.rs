//! Output of a command on stdout, as text or as JSON.

use std::io::{self, Write};

use anyhow::Context;
use petiole_celery::json;
use serde_json::Value;

use crate::exit::{Failure, Result};

/// Prints a value as one line of JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).context("can't write JSON")?;
    print_text(&format!("{text}\n"))
}

/// Prints a value of a task as one line of JSON.
pub(super) fn print_value(value: &Value) -> Result<()> {
    print_text(&format!("{}\n", json::Text(value)))
}

/// Writes to stdout. A reader that has gone (`| head`) is no failure.
pub(super) fn print_text(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(
            anyhow::Error::from(error).context("can't write to stdout"),
        )),
        _ => Ok(()),
    }
}
