//! Attack: spin beside the calls of another function of the same component, which must not feel it.

#[petiole::task]
fn attack() {
    loop {
        std::hint::black_box(());
    }
}

/// The neighbour.
#[petiole::task]
fn add(x: i64, y: i64) -> i64 {
    x + y
}
