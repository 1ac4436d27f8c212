//! Saves the results of tasks as rows in PostgreSQL, as callbacks of those tasks. Pushed as `store_result`
//! with `manifest.toml`, on a database with the table of `migration.sql`:
//!
//! ```python
//! s = run_task.s(1000)
//! s.link(store_result.on_success_task.s())
//! s.link_error(store_result.on_error_task.s())
//! s.apply_async()
//! ```
//!
//! The database is reached over TCP by an ordinary driver, `tokio-postgres`: the manifest asks for `host:port`
//! and for the secret `DATABASE_URL`, and the worker's `[grants]` allow them. tokio's sockets need
//! `--cfg tokio_unstable` where they are WASI's: see `.cargo/config.toml` at the top of the repository. The
//! connection is not encrypted, so it is for a network that is trusted. `docs/decisions/0011` tells what this costs.
//!
//! A task may be delivered more than once. The row's key is the task's id, so the second delivery changes
//! nothing. A database that can't be reached is a retry; an answer that it does not like the row is a failure.

mod database;

use petiole::{Error, Json, context};
use serde_json::Value;

/// Saves the result of the task that this is linked to. Returns whether it is new.
#[petiole::task]
fn on_success_task(result: Json) -> Result<bool, Error> {
    let callback = context();
    let task_id = callback.parent_id.unwrap_or(callback.id);
    database::insert(&task_id, "SUCCESS", Some(&result.0))
}

/// Saves that the task which this is linked to, by link_error, has failed. Returns whether it is new.
#[petiole::task]
fn on_error_task(task_id: String) -> Result<bool, Error> {
    database::insert(&task_id, "FAILURE", None::<&Value>)
}
