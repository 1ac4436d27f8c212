//! A test guest: the tasks that Petiole's system tests run. Nothing to copy from; see `tasks-wasm/`.

mod hostile;
mod typed;
mod worker;

use petiole::{Error, Json};

/// Adds two numbers.
#[petiole::task]
fn add(x: i64, y: i64) -> i64 {
    x.wrapping_add(y)
}

/// Gives a value back.
#[petiole::task]
fn echo(value: Json) -> Json {
    value
}

/// Takes any arguments, and gives them back as `{"args": [...], "kwargs": {...}}`.
#[petiole::task]
fn free_form(args: Vec<Json>, kwargs: Vec<(String, Json)>) -> Result<Json, Error> {
    let kwargs: serde_json::Map<_, _> = kwargs
        .into_iter()
        .map(|(name, value)| (name, value.0))
        .collect();
    Ok(Json(serde_json::json!({ "args": args, "kwargs": kwargs })))
}

/// Fails with a ValueError.
#[petiole::task]
fn fail(message: String) -> Result<(), Error> {
    Err(Error::fail("ValueError", message))
}

/// Fails with an err that is a plain string.
#[petiole::task]
fn fail_plainly(message: String) -> Result<(), String> {
    Err(message)
}

/// Has no result.
#[petiole::task]
fn nothing() {}
