//! Attack: send what no message carries, and to where nobody may send, so that the broker ends the channel or the
//! connection that the neighbours' messages are on.

use petiole::{Error, Json, Signature};

/// Sends a task of its caller's name, with its caller's options.
#[petiole::task]
fn attack(task: String, options: Vec<(String, Json)>) -> Result<String, Error> {
    let mut signature = Signature::new(task);
    for (name, value) in options {
        signature = signature.option(name, value);
    }
    petiole::send(signature)
}
