#![allow(unused)]

#[derive(petiole::Type)]
struct Tuple(u64);

#[derive(petiole::Type)]
struct Empty {}

#[derive(petiole::Type)]
struct Generic<T> {
    value: T,
}

#[derive(petiole::Type)]
struct Recursive {
    children: Vec<Recursive>,
}

#[derive(petiole::Type)]
enum Fields {
    Two(u8, u8),
}

#[derive(petiole::Type)]
#[petiole(name = "Not Kebab")]
struct Named {
    value: u8,
}

fn main() {}
