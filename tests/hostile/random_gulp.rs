//! Attack: ask for a terabyte of random numbers at once.

#[petiole::task]
fn attack() {
    wasip2::random::random::get_random_bytes(1 << 40);
}
