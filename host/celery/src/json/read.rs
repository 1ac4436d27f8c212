//! Text in which a marked string stands for what serde_json would not take, or would change.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::token::{MARK_BYTES, is_exotic_number, is_exotic_string};

/// Bytes that a value takes in an array that has just grown: beside its twice as many places the old ones are there.
const VALUE: usize = 3 * size_of::<Value>() + SMALLEST;
/// Bytes that an object or an array takes from its first value on: four places, and of an object the names' table.
const CONTAINER: usize = 4 * (size_of::<String>() + size_of::<usize>() + size_of::<Value>()) + 64;
/// Bytes that an allocator gives for a name of one byte.
const SMALLEST: usize = 16;
/// Times its size that something takes while it grows: the old one, and the new one with as much again.
const GROWS: usize = 3;

/// Bytes of memory that it takes to [parse](super::parse) a text, and what that comes to, at most; without the text
/// itself.
pub(crate) fn memory(text: &[u8]) -> usize {
    // Bytes of the longest string with an escape, which serde_json reads to a place of its own; and of the marked text.
    let (mut memory, mut escaped, mut marked, mut at) = (0_usize, 0, 0, 0);
    for token in (Tokens { text, at: 0 }) {
        let raw = text.get(token.clone()).unwrap_or_default();
        let opened = opened(text.get(at..token.start).unwrap_or_default());
        memory = memory
            .saturating_add(opened)
            .saturating_add(VALUE + raw.len());
        if raw.contains(&b'\\') {
            escaped = raw.len().max(escaped);
        }
        if is_exotic_number(raw) || is_exotic_string(raw) {
            marked = text.len();
        }
        at = token.end;
    }
    let grown = escaped.saturating_add(marked).saturating_mul(GROWS);
    let opened = opened(text.get(at..).unwrap_or_default());
    memory.saturating_add(opened).saturating_add(grown)
}

/// The same of the objects and arrays that begin between two tokens.
fn opened(between: &[u8]) -> usize {
    let mut memory = 0_usize;
    let mut signs = between.iter().peekable();
    while let Some(sign) = signs.next() {
        let is_empty = matches!(signs.peek(), Some(b']' | b'}'));
        memory = memory.saturating_add(match sign {
            b'[' | b'{' if is_empty => VALUE,
            b'[' | b'{' => VALUE + CONTAINER,
            _ => 0,
        });
    }
    memory
}

/// The text with marked strings in the place of what serde_json would not take, or would change. What is no JSON stays
/// none: a token is replaced as a whole, and by another kind only where any value may stand.
pub(super) fn marked(text: &[u8]) -> Cow<'_, [u8]> {
    let mut marked = Vec::new();
    let mut copied = 0;
    for token in (Tokens { text, at: 0 }) {
        let (Some(raw), Some(rest)) = (text.get(token.clone()), text.get(token.end..)) else {
            break;
        };
        let is_string = is_exotic_string(raw);
        if !is_string && (!is_exotic_number(raw) || is_name(rest)) {
            continue;
        }
        marked.extend_from_slice(text.get(copied..token.start).unwrap_or_default());
        mark(raw, &mut marked);
        copied = token.end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    marked.extend_from_slice(text.get(copied..).unwrap_or_default());
    Cow::Owned(marked)
}

/// A marked string, as JSON. The text has no control characters.
fn mark(raw: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(MARK_BYTES);
    for byte in raw {
        if let b'"' | b'\\' = byte {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// True if a colon comes next, which only a string may precede.
fn is_name(rest: &[u8]) -> bool {
    let next = rest.iter().find(|byte| !is_space(**byte));
    next == Some(&b':')
}

/// The strings of a text, and what else lies between its signs, each as a whole.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let start = self.at + rest.iter().position(|byte| !is_between(*byte))?;
        let token = self.text.get(start..)?;
        let end = match token.first()? {
            b'"' => string_end(token)?,
            _ => {
                let ends = |byte: &u8| is_between(*byte) || *byte == b'"';
                token.iter().position(ends).unwrap_or(token.len())
            }
        };
        self.at = start + end;
        Some(start..self.at)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_between(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b':')
}

/// Finds the end of the string that the token begins with.
fn string_end(token: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let rest = token.get(at..)?;
        at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match token.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}
