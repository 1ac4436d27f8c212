#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod fake;
mod inbound;
mod left_out;
mod outbound;
mod socket;

use super::frame::{TYPE_HEADER, length, write};

/// The content header of a message with such encoded properties, on channel 1.
fn content(body: u64, properties: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = [&[0, 60, 0, 0][..], &body.to_be_bytes()].concat();
    write(&mut out, TYPE_HEADER, 1, &[&start, properties]);
    out
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// With its length before it.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len()), bytes].concat()
}

/// Encoded properties that are headers alone.
fn headers(entries: &[Vec<u8>]) -> Vec<u8> {
    [&[0x20, 0][..], &long(&entries.concat())].concat()
}

fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name), value].concat()
}

/// A header's value: text.
fn text(text: &[u8]) -> Vec<u8> {
    [b"S", &long(text)[..]].concat()
}

/// Arrays in arrays.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = vec![b'V'];
    // From the outside in, each length is known: five bytes a level, and the innermost.
    if levels > 0 {
        value.clear();
        for level in 0..levels {
            value.push(b'A');
            value.extend_from_slice(&length(5 * (levels - level - 1) + 1));
        }
        value.push(b'V');
    }
    value
}
