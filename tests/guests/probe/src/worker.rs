//! Tasks that use the worker's own interfaces.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole::{Error, Json, Signature};
use serde_json::json;

/// Asks to be run again, once a second, until it has been this many times.
#[petiole::task]
fn retry_until(n: u32, countdown_ms: Option<u64>) -> Result<u32, Error> {
    let retries = petiole::context().retries;
    if retries >= n {
        return Ok(retries);
    }
    let delay = Duration::from_millis(countdown_ms.unwrap_or(1000));
    Err(
        Error::retry("Unfinished", format!("{retries} of {n} retries"))
            .after(delay)
            .max_retries(n),
    )
}

/// Asks to be run again for ever, with a limit.
#[petiole::task]
fn retry_in_vain(max_retries: u32) -> Result<(), Error> {
    let error = Error::retry(
        "StillBroken",
        format!("retry {}", petiole::context().retries),
    );
    Err(error.after(Duration::ZERO).max_retries(max_retries))
}

/// Gives its message back.
#[petiole::task]
fn reject(requeue: bool) -> Result<(), Error> {
    Err(Error::reject("probe was told to reject", requeue))
}

/// Ends without a result.
#[petiole::task]
fn ignore() -> Result<(), Error> {
    Err(Error::ignore())
}

/// Sends a task; its result is the new task's id.
#[petiole::task]
fn send_child(task: String, args: Vec<Json>) -> Result<String, Error> {
    petiole::send(args.into_iter().fold(Signature::new(task), Signature::arg))
}

/// Sends a task, then fails: the child must not be sent.
#[petiole::task]
fn send_child_and_fail(task: String) -> Result<(), Error> {
    petiole::send(Signature::new(task))?;
    Err(Error::fail("ValueError", "failed after sending"))
}

/// Sends this many tasks; its result is their ids.
#[petiole::task]
fn send_children(task: String, count: u32) -> Result<Vec<String>, Error> {
    (0..count)
        .map(|index| petiole::send(Signature::new(&task).arg(index)))
        .collect()
}

/// Sends two of itself, each of which does the same.
#[petiole::task]
fn fork() -> Result<(), Error> {
    let task = petiole::context().task;
    petiole::send(Signature::new(&task))?;
    petiole::send(Signature::new(&task)).map(drop)
}

/// Reports the states 1 to `steps` of `steps`.
#[petiole::task]
fn progress(steps: u32) -> Result<u32, Error> {
    for done in 1..=steps {
        petiole::progress("PROGRESS", &json!({ "done": done, "total": steps }))?;
    }
    Ok(steps)
}

/// Reports a state, and gives back the worker's answer.
#[petiole::task]
fn report_state(state: String, meta: Json) -> Result<(), Error> {
    petiole::progress(&state, &meta)
}

/// Returns this many random bytes of the host's.
#[petiole::task]
fn random_bytes(count: u32) -> Vec<u8> {
    wasip2::random::random::get_random_bytes(count.into())
}

/// Returns the request as the task sees it.
#[petiole::task]
fn show_context() -> Json {
    let request = petiole::context();
    let unix_ms = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    Json(json!({
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group_id": request.group_id,
        "group_index": request.group_index,
        "headers": request.headers.into_iter().collect::<serde_json::Map<_, _>>(),
        "deadline_ms": unix_ms(request.deadline),
        "soft_deadline_ms": request.soft_deadline.map(unix_ms),
        "idempotency_key": request.idempotency_key,
    }))
}
