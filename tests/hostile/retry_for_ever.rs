//! Attack: ask to be run again at once, for ever, and set one's own number of retries.

use petiole::Error;
use std::time::Duration;

#[petiole::task]
fn attack(counter: String) -> Result<(), Error> {
    println!("FORKED {counter}");
    Err(Error::retry("Again", "and again")
        .after(Duration::ZERO)
        .max_retries(u32::MAX))
}
