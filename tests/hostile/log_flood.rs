//! Attack: fill the worker's log by its own interface.

#[petiole::task]
fn attack() {
    loop {
        petiole::log::error("flood ".repeat(1000));
    }
}
