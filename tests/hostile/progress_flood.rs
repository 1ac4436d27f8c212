//! Attack: drown the result backend in states.

#[petiole::task]
fn attack() {
    for step in 0_u64.. {
        let _ = petiole::progress("PROGRESS", &step);
    }
}
