//! Types that a task may have, wherever they are defined and whatever they are called here.

#![deny(unsafe_code, warnings)]

mod shapes {
    #[derive(petiole::Type)]
    pub struct Inner {
        pub r#type: Option<Vec<(u8, char)>>,
    }

    #[derive(petiole::Type)]
    #[petiole(name = "another-name")]
    pub enum Outer {
        Empty,
        Full(Inner),
    }
}

use shapes::Outer as Renamed;
type Alias = Vec<Renamed>;

/// Inner is not imported here.
#[petiole::task]
fn with_user_types(_first: Alias, second: Renamed) -> Result<Renamed, petiole::Error> {
    Ok(second)
}

#[petiole::task]
fn run() {}

#[petiole::task]
pub(crate) fn nested(outcome: Result<(), String>) -> Result<Result<u8, ()>, Renamed> {
    Ok(outcome.map(|()| 1).map_err(drop))
}

#[petiole::task]
#[allow(clippy::too_many_arguments)]
fn many(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8, n: u8, o: u8, p: u8,
) -> Vec<u8> {
    vec![a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn main() {
    run();
    drop(nested(Ok(())));
    drop(with_user_types(vec![], Renamed::Full(shapes::Inner { r#type: None })));
    drop((Renamed::Empty, many(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
}
