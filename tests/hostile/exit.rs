//! Attack: end the process.

#[petiole::task]
fn attack(code: i32) {
    std::process::exit(code);
}
