//! Attack: make the host do the work: let it read megabytes of JSON again and again.

#[petiole::task]
fn attack(numbers: u32) {
    let zeros = vec![0_u8; numbers as usize];
    loop {
        let _ = petiole::progress("PROGRESS", &zeros);
    }
}
