//! Attack: call the host for ever, with a call that costs the guest next to nothing.

#[petiole::task]
fn attack() {
    loop {
        wasip2::clocks::monotonic_clock::now();
    }
}
