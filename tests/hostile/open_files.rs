//! Attack: keep files open until the worker has no descriptor left to take a connection with.

#[petiole::task]
fn attack(folder: String) -> Result<(), petiole::Error> {
    std::fs::write(format!("{folder}/one"), "")?;
    loop {
        std::mem::forget(std::fs::File::open(format!("{folder}/one"))?);
    }
}
