//! Every kind of type, there and back.

/// A record of scalars, of all widths.
#[derive(petiole::Type)]
struct Scalars {
    yes: bool,
    s8: i8,
    u8: u8,
    s16: i16,
    u16: u16,
    s32: i32,
    u32: u32,
    s64: i64,
    u64: u64,
    f32: f32,
    f64: f64,
    letter: char,
    text: String,
}

/// An enum.
#[derive(petiole::Type)]
enum Colour {
    Red,
    DarkGreen,
}

/// A variant whose payloads share their core values.
#[derive(petiole::Type)]
enum Shape {
    Nothing,
    Circle(f32),
    Square(i64),
    Label(String),
    Rectangle(Sides),
}

/// A record inside a variant.
#[derive(petiole::Type)]
struct Sides {
    width: f64,
    height: Option<f64>,
}

/// Gives its arguments back; few enough to be passed as core values.
#[petiole::task]
fn typed(
    shape: Shape,
    colour: Colour,
    tags: Option<Vec<String>>,
) -> (Shape, Colour, Option<Vec<String>>) {
    (shape, colour, tags)
}

/// Gives its arguments back; so many that they are passed in memory.
#[petiole::task]
#[allow(clippy::type_complexity)] // to be read beside the parameters
fn typed_in_memory(
    scalars: Scalars,
    shapes: Vec<Shape>,
    pairs: Vec<(Colour, u16)>,
    outcome: Result<u8, String>,
) -> (Scalars, Vec<Shape>, Vec<(Colour, u16)>, Result<u8, String>) {
    (scalars, shapes, pairs, outcome)
}

/// Gives bytes back.
#[petiole::task]
fn echo_bytes(data: Vec<u8>) -> Vec<u8> {
    data
}

/// Adds up trailing options that may be left out.
#[petiole::task]
fn optional(first: u32, second: Option<u32>, third: Option<u32>) -> u64 {
    [Some(first), second, third]
        .into_iter()
        .flatten()
        .map(u64::from)
        .sum()
}

/// Fails with a case of a variant, which is no petiole:task error.
#[petiole::task]
fn fail_typed(shape: Shape) -> Result<Colour, Shape> {
    match shape {
        Shape::Nothing => Ok(Colour::Red),
        shape => Err(shape),
    }
}
