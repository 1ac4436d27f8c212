//! Attack: panic while panicking, and abort.

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("again");
    }
}

#[petiole::task]
fn attack() {
    let _bomb = Bomb;
    let text: Option<String> = std::hint::black_box(None);
    drop(text.unwrap());
    std::process::abort();
}
