//! Attack: the same by the interface of the random numbers that need not be good.

#[petiole::task]
fn attack() {
    loop {
        wasip2::random::insecure::get_insecure_random_bytes(64 * 1024);
    }
}
