//! Attack: never end, without using a processor.

#[petiole::task]
fn attack() {
    std::thread::sleep(std::time::Duration::from_secs(u64::MAX / 4));
}
