//! Attack: a fork bomb that gives its children headers, roots and parents of its own making, so that each seems to be
//! the first of its kind.

use petiole::Signature;
use serde_json::json;

#[petiole::task]
fn attack(counter: String) -> Result<(), petiole::Error> {
    let forged = json!({ "x-petiole-depth": 1000, "x-petiole-descendants": 1_000_000, "id": "x", "root_id": "x" });
    for number in 0..2 {
        let child = Signature::new(petiole::context().task).arg(&counter);
        let child = child.option("headers", &forged);
        let child = child.option("root_id", format!("root-{number}"));
        petiole::send(child.option("parent_id", "nobody"))?;
    }
    println!("FORKED {counter}");
    Ok(())
}
