//! Attack: send only as many tasks as one may, each with all the arguments it may have: together more than the host has.

use petiole::Signature;

#[petiole::task]
fn attack(count: u32, bytes: u32) -> Result<u32, petiole::Error> {
    for _ in 0..count {
        let numbers = vec![0_u8; bytes as usize / 2];
        petiole::send(Signature::new("hostile.nowhere.attack").arg(numbers))?;
    }
    Err(petiole::Error::fail(
        "Survived",
        format!("{count} signatures of {bytes} bytes were kept"),
    ))
}
