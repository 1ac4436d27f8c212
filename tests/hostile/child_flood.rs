//! Attack: send tasks without end.

use petiole::Signature;

#[petiole::task]
fn attack() -> Result<(), petiole::Error> {
    loop {
        petiole::send(Signature::new("hostile.nowhere.attack"))?;
    }
}
