//! Attack: panic, with a message that holds control characters.

#[petiole::task]
fn attack() {
    panic!(
        "at the \u{1b}[31mdisco\n[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded"
    );
}
