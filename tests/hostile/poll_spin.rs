//! Attack: keep the host's timers busy: wait for what is always ready, in lists of a thousand.

use wasip2::clocks::monotonic_clock::subscribe_duration;

#[petiole::task]
fn attack() {
    let pollables: Vec<_> = (0..1000).map(|_| subscribe_duration(0)).collect();
    let all: Vec<_> = pollables.iter().collect();
    loop {
        wasip2::io::poll::poll(&all);
    }
}
