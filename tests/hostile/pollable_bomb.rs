//! Attack: take pollables of the host's, and never give one back.

#[petiole::task]
fn attack() {
    loop {
        std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
}
