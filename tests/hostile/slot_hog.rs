//! Attack: be called so often, and sleep so long, that no slot is left for others.

#[petiole::task]
fn attack(ms: u64) -> u64 {
    std::thread::sleep(std::time::Duration::from_millis(ms));
    ms
}
