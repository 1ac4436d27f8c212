//! Attack: the same as `stolen_id`, one level down: the id stands in a callback of the task that is sent.

use petiole::Signature;
use serde_json::json;

#[petiole::task]
fn attack(victim: String, task: String) -> Result<String, petiole::Error> {
    let callback = Signature::new(&task)
        .arg(666)
        .arg(0)
        .immutable()
        .option("headers", json!({ "id": victim }))
        .option("task_id", victim);
    petiole::send(Signature::new(task).arg(1).arg(1).link(callback))
}
