//! Attack: arguments that are larger than the task ever wanted them.

#[petiole::task]
fn attack(numbers: Vec<u64>) -> u64 {
    numbers.len() as u64
}
