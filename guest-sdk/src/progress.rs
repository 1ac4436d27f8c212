//! The task's state as its callers see it.

use serde::Serialize;

use crate::{Error, host};

/// Stores a state of the task's own choice, as Celery's `Task.update_state`: `state` in upper case, for
/// example `PROGRESS`, and `meta`, which `AsyncResult.info` returns in Python.
///
/// Updates may be dropped when they come faster than the result backend takes them; the last one is
/// kept. Fails with a `ValueError` where `state` is one of Celery's final states, or where `meta` takes more
/// than 256 KiB of JSON.
///
/// ```
/// # fn main() -> Result<(), petiole::Error> {
/// petiole::progress("PROGRESS", &serde_json::json!({ "done": 3, "total": 10 }))
/// # }
/// ```
pub fn progress(state: &str, meta: &impl Serialize) -> Result<(), Error> {
    host::update_state(state, &serde_json::to_string(meta)?)
        .map_err(|problem| Error::fail("ValueError", problem))
}
