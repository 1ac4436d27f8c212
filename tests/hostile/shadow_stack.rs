//! Attack: use up the stack that the guest's own compiler keeps in its memory, below the machine's.

use std::hint::black_box;

#[petiole::task]
fn attack() -> u64 {
    recurse(0)
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 1000]);
    black_box(recurse(depth + 1)) + frame[7]
}
