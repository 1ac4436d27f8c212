//! Attack: drain the host's random numbers, a little at a time.

#[petiole::task]
fn attack() {
    loop {
        wasip2::random::random::get_random_bytes(64 * 1024);
    }
}
