//! Sending other tasks.

use crate::{Error, Signature, host};

/// Sends a task together with this one's other messages: when this task has succeeded, before it is
/// acknowledged; not at all when it fails. Returns the id of the new task, which is the same when this
/// task is delivered again.
///
/// Fails with a `ValueError` where an argument has no JSON form. A task that sends more than it may, with the
/// callbacks of what it sends, is ended.
pub fn send(signature: Signature) -> Result<String, Error> {
    let sent = match &signature.problem {
        Some(problem) => Err(format!(
            "an argument of {} has no JSON form: {problem}",
            signature.task
        )),
        None => host::send(signature),
    };
    sent.map_err(|problem| Error::fail("ValueError", problem))
}
