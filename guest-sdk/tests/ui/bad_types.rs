#![allow(unused)]

use std::collections::HashMap;

struct NotDerived {
    _n: u64,
}

#[petiole::task]
fn borrowed(text: &str, bytes: &[u8]) {}

#[petiole::task]
fn sized(n: usize) -> Vec<isize> {
    vec![]
}

#[petiole::task]
fn missing_derive(value: NotDerived) {}

#[petiole::task]
fn missing_derive_inside() -> Result<Vec<NotDerived>, petiole::Error> {
    Ok(vec![])
}

#[petiole::task]
fn map(counts: HashMap<String, u64>) {}

fn main() {}
