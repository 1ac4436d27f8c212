//! Values as text, with the text of a marked string in its place.

use std::fmt::{self, Display};
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

use super::MARK;
use super::token::{is_exotic_number, is_exotic_string};

/// Writes a value's JSON as it is shown, stored and sent.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Value);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        to_writer(Characters(f), self.0).map_err(|_| fmt::Error)
    }
}

/// Takes what serde_json writes, which is UTF-8 in each piece.
struct Characters<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl io::Write for Characters<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value's JSON, written as far as it may be.
pub(crate) struct Written {
    /// None of it where it is larger than the limit.
    pub(crate) bytes: Vec<u8>,
    /// In bytes.
    pub(crate) size: usize,
    limit: usize,
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= self.limit {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes = Vec::new();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes values, or counts their bytes where they are more than the limit.
pub(crate) fn write(value: &impl Serialize, limit: usize) -> serde_json::Result<Written> {
    let mut written = Written {
        bytes: Vec::new(),
        size: 0,
        limit,
    };
    to_writer(&mut written, value)?;
    Ok(written)
}

/// The bytes of their JSON.
pub fn size(value: &impl Serialize) -> usize {
    write(value, 0).map_or(usize::MAX, |written| written.size)
}

/// Writes values' JSON until the writer fails.
///
/// # Errors
/// If the writer fails, or a map has names that are no strings.
pub fn to_writer(writer: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, Unmark::default()))
}

/// serde_json's compact form, with the text of a marked string in its place.
#[derive(Default)]
struct Unmark {
    in_name: bool,
    state: InString,
}

/// Progress in writing a string.
#[derive(Default)]
enum InString {
    /// Nothing of it, or it has ended.
    #[default]
    Outside,
    /// It begins with the mark: the text after that.
    Held(String),
    /// Its beginning.
    Written,
}

impl InString {
    /// The string has begun, and not with the mark.
    fn begin<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if let Self::Outside = self {
            *self = Self::Written;
            writer.write_all(b"\"")?;
        }
        Ok(())
    }
}

impl Formatter for Unmark {
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.in_name = true;
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_name = false;
        Ok(())
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.state = InString::Outside;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        match (&mut self.state, fragment.strip_prefix(MARK)) {
            (InString::Held(raw), _) => raw.push_str(fragment),
            (InString::Outside, Some(raw)) => self.state = InString::Held(raw.to_owned()),
            (state, _) => {
                state.begin(writer)?;
                writer.write_all(fragment.as_bytes())?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if let InString::Held(raw) = &mut self.state {
            raw.push(unescaped(&escape));
            return Ok(());
        }
        self.state.begin(writer)?;
        CompactFormatter.write_char_escape(writer, escape)
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if let InString::Held(raw) = &self.state {
            let token = raw.as_bytes();
            return match is_exotic_string(token) || (!self.in_name && is_exotic_number(token)) {
                true => writer.write_all(token),
                false => Ok(serde_json::to_writer(writer, &format!("{MARK}{raw}"))?),
            };
        }
        self.state.begin(writer)?;
        writer.write_all(b"\"")
    }
}

fn unescaped(escape: &CharEscape) -> char {
    match escape {
        CharEscape::Quote => '"',
        CharEscape::ReverseSolidus => '\\',
        CharEscape::Solidus => '/',
        CharEscape::Backspace => '\u{8}',
        CharEscape::FormFeed => '\u{c}',
        CharEscape::LineFeed => '\n',
        CharEscape::CarriageReturn => '\r',
        CharEscape::Tab => '\t',
        CharEscape::AsciiControl(byte) => char::from(*byte),
    }
}
