//! Signatures that a guest may send: those that mean the same to Petiole and to Celery's own library, which gets them
//! with the callbacks of a Python task. That library takes nearly any value for a signature, any unknown field or
//! option for one of its own, and has tasks that send what they find among their arguments: each a way to send
//! uncounted tasks, or to write their headers.

use serde_json::Value;

use super::TASKS;
use crate::layered::LayeredOptions;
use crate::options::Options;
use crate::{Signature, SignatureError};

/// Options that a guest may set, beside those that hold signatures. Left out, among all that `apply_async`
/// takes: `stamped_headers`, which takes away the options it names; `options`, which are more of them;
/// `chord`; and what concerns the library of the sender only.
const OPTIONS: [&str; 18] = [
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "delivery_mode",
    "countdown",
    "eta",
    "expires",
    "time_limit",
    "soft_time_limit",
    "retries",
    "headers",
    "ignore_result",
    "shadow",
    "reply_to",
    "task_id",
    "root_id",
    "parent_id",
];

/// Checks all but the signatures in it.
pub(super) fn check(signature: &Signature) -> Result<(), SignatureError> {
    let Signature { task, options, .. } = signature;
    let refused = |reason: String| Err(SignatureError::new(reason));
    match signature.subtask_type.as_deref() {
        None if task.starts_with("celery.") => {
            return refused(format!("{task:?} is Celery's own: a task can't send it"));
        }
        None => {}
        Some("chain" | "group") if signature.kwargs.get(TASKS).is_some_and(Value::is_array) => {}
        Some("chain" | "group") => {
            return refused(format!("{task:?} has no array `{TASKS}` in its kwargs"));
        }
        Some(other) => {
            return refused(format!(
                "`subtask_type` of {task:?} is {other:?}: a task can send a chain or a group"
            ));
        }
    }
    let unknown = |name: &&String| !OPTIONS.contains(&name.as_str());
    if let Some(name) = options.keys().find(unknown) {
        return refused(format!(
            "option `{name}` of {task:?} can't be set by a task"
        ));
    }
    Options::read(task, &LayeredOptions::own(options)).map(drop)
}

/// Checks that a group is the last step of its chain. Before another one it is the header of a chord, or, in
/// the option `chain`, each of its tasks is followed by all the rest.
pub(super) fn check_order(signature: &Signature) -> Result<(), SignatureError> {
    let steps = match signature.subtask_type.as_deref() {
        Some("chain") => array(signature.kwargs.get(TASKS)),
        _ => &[],
    };
    let before_last = steps.split_last();
    // the option is reversed
    let before_first = array(signature.options.get("chain")).split_first();
    let mut before = [before_last, before_first].into_iter().flatten();
    if before.any(|(_, before)| before.iter().any(ends_in_group)) {
        return Err(SignatureError::new(format!(
            "a chain of {:?} goes on after a group, which is a chord: a task can't send one",
            signature.task
        )));
    }
    Ok(())
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn ends_in_group(signature: &Value) -> bool {
    match signature.get("subtask_type").and_then(Value::as_str) {
        Some("group") => true,
        Some("chain") => {
            let kwargs = signature.get("kwargs");
            let steps = array(kwargs.and_then(|kwargs| kwargs.get(TASKS)));
            steps.iter().any(ends_in_group)
        }
        _ => false,
    }
}
