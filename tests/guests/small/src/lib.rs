//! The smallest of tasks, for measuring what a call costs.

/// Adds two numbers.
#[petiole::task]
fn add(x: i64, y: i64) -> i64 {
    x.wrapping_add(y)
}
