//! Attack: give a task callbacks that a Python worker would take for signatures, and that nobody has counted.

use petiole::{Error, Json, Signature};

#[petiole::task]
fn attack(callback: Json) -> Result<String, Error> {
    petiole::send(Signature::new("hostile.nowhere.attack").option("link", callback.0))
}
