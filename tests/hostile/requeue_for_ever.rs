//! Attack: give the message back to its queue whenever it comes, so that it comes at once, for ever.

use petiole::Error;

#[petiole::task]
fn attack(counter: String) -> Result<(), Error> {
    println!("FORKED {counter}");
    Err(Error::reject("not me", true))
}
