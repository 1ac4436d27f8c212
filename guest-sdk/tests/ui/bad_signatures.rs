#![allow(unused)]

#[petiole::task]
async fn is_async() {}

#[petiole::task]
fn generic<T>(value: T) {}

#[petiole::task]
fn has_self(&self) {}

#[petiole::task]
fn pattern((a, b): (u8, u8)) {}

#[petiole::task]
fn to_2d() {}

#[petiole::task]
fn connect() {}

#[petiole::task(name = "other")]
fn options() {}

#[petiole::task]
struct NotAFunction;

fn main() {}
