//! Attack: fill the worker's log with lines that have no bytes to count.

#[petiole::task]
fn attack() {
    loop {
        petiole::log::error("");
    }
}
