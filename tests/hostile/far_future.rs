//! Attack: times that no clock has: a countdown of a billion years, an eta before the first year, an expiry of NaN; and
//! other options that no message has.

use petiole::{Error, Json, Signature};

/// Sends a task with one option of its caller's.
#[petiole::task]
fn attack(name: String, value: Json) -> Result<String, Error> {
    petiole::send(Signature::new("hostile.nowhere.attack").option(name, value))
}
