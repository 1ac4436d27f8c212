//! Attack: send a task under the id of another one, so that its caller reads our result.

use petiole::Signature;

#[petiole::task]
fn attack(victim: String, task: String) -> Result<String, petiole::Error> {
    petiole::send(
        Signature::new(task)
            .arg(666)
            .arg(0)
            .option("task_id", victim),
    )
}
