//! Attack: fill the worker's log by printing.

#[petiole::task]
fn attack() {
    loop {
        println!("{}", "flood ".repeat(1000));
    }
}
