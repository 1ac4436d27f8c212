//! Attack: open what never answers: a named pipe that nobody writes to, in a folder one was given.

#[petiole::task]
fn attack() -> Result<String, petiole::Error> {
    Ok(std::fs::read_to_string("/box/pipe")?)
}
