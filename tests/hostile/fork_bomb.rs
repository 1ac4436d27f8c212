//! Attack: send two of oneself, each of which sends two of itself.

use petiole::Signature;

#[petiole::task]
fn attack(counter: String) -> Result<(), petiole::Error> {
    for _ in 0..2 {
        petiole::send(Signature::new(petiole::context().task).arg(&counter))?;
    }
    println!("FORKED {counter}");
    Ok(())
}
