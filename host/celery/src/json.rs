//! JSON as Python writes and reads it, in and out of serde_json's [`Value`] with no value changed.
//!
//! Celery's JSON is Python's: it has integers of any size, `NaN`, `Infinity`, `-Infinity`, and strings with a
//! surrogate that is half of no pair. What a [`Value`] can't hold of it stands in one as a *marked* string, which begins
//! with U+10FFFF (a noncharacter: no text that is for anybody has it), and goes on with the value's own JSON text. Marked
//! are:
//! - integers past 64 bits, and `-0`, which would become a float
//! - numbers past the largest float: `1e999` is an infinity in Python
//! - `NaN`, `Infinity` and `-Infinity`
//! - strings and names with a lone surrogate
//! - strings and names that begin with U+10FFFF themselves, so that nothing else looks like a marked one
//!
//! [`parse`] marks, and what is written here has the text of a marked string in its place. Whoever looks into a value
//! uses [`text`], [`float`] and [`integer`]; a marked string that is taken for text is one that nobody expects, and no
//! harm.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// What a marked string begins with.
const MARK: char = '\u{10FFFF}';
/// The same in UTF-8, and as an escape.
const MARK_BYTES: &[u8] = b"\xf4\x8f\xbf\xbf";
const MARK_ESCAPED: &[u8] = br"\udbff\udfff";
/// Any integer of no more digits fits 64 bits, and no number of no more bytes without an exponent is past the floats.
const SURELY_FITS: usize = 18;

/// Reads JSON as Python's `json.loads` does, nested up to 127 levels.
///
/// # Errors
/// When it is not JSON. Its position counts in the text with the marks.
pub fn parse(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(&marked(text))
}

/// A string as it stands in values: any but those of [`parse`] come in by this.
pub fn string(text: impl Into<String>) -> Value {
    Value::String(held(text.into()))
}

/// The same of a name in an object.
pub fn held(text: String) -> String {
    match text.starts_with(MARK) {
        true => format!("{MARK}{}", Value::String(text)),
        false => text,
    }
}

/// The text of a string; none where the value is no string, or has a lone surrogate.
pub fn text(value: &Value) -> Option<Cow<'_, str>> {
    name(value.as_str()?)
}

/// The text of a string in a value, or of a name in an object; none where it has a lone surrogate, or is marked as
/// something else.
pub fn name(held: &str) -> Option<Cow<'_, str>> {
    match raw_of(held) {
        None => Some(Cow::Borrowed(held)),
        Some(raw) => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

/// The same of what Petiole itself names things by. A text that begins with U+10FFFF is none.
pub(crate) fn plain_text(value: &Value) -> Option<&str> {
    value.as_str().filter(|held| raw_of(held).is_none())
}

/// kombu's `{"__type__": ..., "__value__": ...}` for what Python's JSON has no form for (`kombu.utils.json`).
pub fn tagged(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    Some((
        plain_text(object.get("__type__")?)?,
        object.get("__value__")?,
    ))
}

/// The float nearest to a number. None where an integer is past the floats, as in Python.
pub fn float(value: &Value) -> Option<f64> {
    let Some(raw) = raw(value) else {
        return value.as_f64();
    };
    match number(raw.as_bytes()) {
        Some(Number::Named) if raw == "NaN" => Some(f64::NAN),
        Some(Number::Named) if raw == "Infinity" => Some(f64::INFINITY),
        Some(Number::Named) => Some(f64::NEG_INFINITY),
        Some(Number::Integer) => raw.parse().ok().filter(|float: &f64| float.is_finite()),
        Some(Number::Float) => raw.parse().ok(),
        None => None,
    }
}

/// An integer, where the type has it.
pub fn integer<T: TryFrom<i64> + TryFrom<u64>>(value: &Value) -> Option<T> {
    match (value.as_i64(), value.as_u64()) {
        (Some(integer), _) => T::try_from(integer).ok(),
        (None, Some(integer)) => T::try_from(integer).ok(),
        (None, None) if raw(value) == Some("-0") => T::try_from(0_i64).ok(),
        (None, None) => None,
    }
}

/// Whether it is a number, of whatever size.
pub fn is_number(value: &Value) -> bool {
    value.is_number() || raw(value).is_some_and(|raw| number(raw.as_bytes()).is_some())
}

/// Whether it is a number without a fraction or an exponent.
pub fn is_integer(value: &Value) -> bool {
    match raw(value) {
        Some(raw) => number(raw.as_bytes()) == Some(Number::Integer),
        None => value.is_i64() || value.is_u64(),
    }
}

/// What a reader of JSON as RFC 8259 has it would not take, since it is none, or (sections 6 and 8.2) has no value that
/// readers agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign<'a> {
    /// `NaN`, `Infinity` or `-Infinity`.
    NoNumber(&'a str),
    /// A number past the largest float.
    TooLarge(&'a str),
    /// A string or a name with a lone surrogate.
    Surrogate(&'a str),
}

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber(raw) => write!(f, "{raw}, which is no JSON (RFC 8259)"),
            Self::TooLarge(raw) => write!(f, "{}, which is past the largest f64", beginning(raw)),
            Self::Surrogate(raw) => {
                write!(f, "{}, which has a lone surrogate", beginning(raw))
            }
        }
    }
}

/// How much is quoted of a value, in bytes.
const QUOTED: usize = 100;

fn beginning(raw: &str) -> Cow<'_, str> {
    match raw.get(..raw.floor_char_boundary(QUOTED)) {
        Some(begin) if begin.len() < raw.len() => Cow::Owned(format!("{begin}...")),
        _ => Cow::Borrowed(raw),
    }
}

/// The first such part of a value.
pub fn foreign(value: &Value) -> Option<Foreign<'_>> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
        Value::String(held) => foreign_text(held),
        Value::Array(items) => items.iter().find_map(foreign),
        Value::Object(members) => members
            .iter()
            .find_map(|(name, value)| foreign_text(name).or_else(|| foreign(value))),
    }
}

fn foreign_text(held: &str) -> Option<Foreign<'_>> {
    let raw = raw_of(held)?;
    match number(raw.as_bytes()) {
        Some(Number::Named) => Some(Foreign::NoNumber(raw)),
        Some(_) => {
            let past = raw.parse::<f64>().is_ok_and(f64::is_infinite);
            past.then_some(Foreign::TooLarge(raw))
        }
        None => serde_json::from_str::<Value>(raw)
            .is_err()
            .then_some(Foreign::Surrogate(raw)),
    }
}

/// What a value is, for messages that must not quote data of any length.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(held) => match (raw_of(held), foreign_text(held)) {
            (None, _) => "a string",
            (Some(_), Some(Foreign::Surrogate(_))) => "a string with a lone surrogate",
            (Some(raw), _) if raw.starts_with('"') => "a string that begins with U+10FFFF",
            (Some(_), _) => "a number",
        },
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The JSON text of a value that stands as a marked string.
pub(crate) fn raw(value: &Value) -> Option<&str> {
    raw_of(value.as_str()?)
}

/// The same of a string in a value, or a name in an object.
pub(crate) fn raw_of(held: &str) -> Option<&str> {
    held.strip_prefix(MARK).filter(|raw| is_exotic(raw))
}

/// Writes a value's JSON as it is shown, stored and sent.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Value);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        to_writer(Characters(f), self.0).map_err(|_| fmt::Error)
    }
}

/// What serde_json writes is UTF-8 in each piece.
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
/// When the writer does, or a map has names that are no strings.
pub fn to_writer(writer: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, Unmark::default()))
}

/// serde_json's compact form, with the text of a marked string in its place.
#[derive(Default)]
struct Unmark {
    in_name: bool,
    state: InString,
}

/// How far a string is written.
#[derive(Default)]
enum InString {
    /// Nothing of it, or it has ended.
    #[default]
    Outside,
    /// It begins with the mark: what came after that.
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

/// The text with marked strings in the place of what serde_json would not take, or would change. What is no JSON stays
/// none: a token is replaced as a whole, and by another kind only where any value may stand.
fn marked(text: &[u8]) -> Cow<'_, [u8]> {
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

/// Whether a colon comes next, which is where only a string may stand before.
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

/// Where the string ends that the token begins with.
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

/// Whether it is the text of a value, or name, that stands as a marked string.
fn is_exotic(raw: &str) -> bool {
    is_exotic_number(raw.as_bytes()) || is_exotic_string(raw.as_bytes())
}

/// What a number that Python reads is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// `NaN`, `Infinity` or `-Infinity`.
    Named,
    Integer,
    /// With a fraction or an exponent.
    Float,
}

/// Reads a number (RFC 8259 section 6, and Python's names); none where it is not one.
fn number(token: &[u8]) -> Option<Number> {
    if let b"NaN" | b"Infinity" | b"-Infinity" = token {
        return Some(Number::Named);
    }
    let unsigned = token.strip_prefix(b"-").unwrap_or(token);
    let (whole, rest) = digits(unsigned);
    if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let (fraction, rest) = digits(rest);
            (Some(fraction), rest)
        }
        None => (None, rest),
    };
    let exponent = match rest {
        [] => None,
        [b'e' | b'E', b'+' | b'-', digits @ ..] | [b'e' | b'E', digits @ ..] => Some(digits),
        _ => return None,
    };
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    match (fraction, exponent) {
        (None, None) => Some(Number::Integer),
        _ => {
            let mut parts = [fraction, exponent].into_iter().flatten();
            parts.all(is_number).then_some(Number::Float)
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn is_exotic_number(token: &[u8]) -> bool {
    if token == b"-0" {
        return true;
    }
    let named = matches!(token.last(), Some(b'N' | b'y'));
    let exponent = || token.iter().any(|byte| matches!(byte, b'e' | b'E'));
    if !named && token.len() <= SURELY_FITS && !exponent() {
        return false;
    }
    let text = str::from_utf8(token).unwrap_or_default();
    match number(token) {
        None => false,
        Some(Number::Named) => true,
        Some(Number::Integer) => text.parse::<i64>().is_err() && text.parse::<u64>().is_err(),
        Some(Number::Float) => text.parse::<f64>().is_ok_and(f64::is_infinite),
    }
}

/// Whether it is a string that begins with the mark, or has a lone surrogate. One that is no string of JSON is neither.
fn is_exotic_string(token: &[u8]) -> bool {
    let inner = token.strip_prefix(b"\"");
    let Some(inner) = inner.and_then(|token| token.strip_suffix(b"\"")) else {
        return false;
    };
    let has_mark = inner.starts_with(MARK_BYTES)
        || (inner.get(..MARK_ESCAPED.len()))
            .is_some_and(|begin| begin.eq_ignore_ascii_case(MARK_ESCAPED));
    match lone_surrogate(inner) {
        Some(is_lone) => is_lone || has_mark,
        None => false,
    }
}

/// Whether there is one in what stands between the quotes of a string; none where that can't stand there
/// (RFC 8259 section 7).
fn lone_surrogate(inner: &[u8]) -> Option<bool> {
    let mut lone = false;
    let mut rest = inner;
    loop {
        rest = match rest {
            [] => return Some(lone),
            [b'\\', b'u', after @ ..] => {
                let (unit, after) = unit(after)?;
                match (unit, after) {
                    (0xd800..=0xdbff, [b'\\', b'u', low @ ..])
                        if let Some((0xdc00..=0xdfff, after)) = self::unit(low) =>
                    {
                        after
                    }
                    _ => {
                        lone |= matches!(unit, 0xd800..=0xdfff);
                        after
                    }
                }
            }
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                after @ ..,
            ] => after,
            [b'\\' | b'"' | ..=0x1f, ..] => return None,
            [_, after @ ..] => after,
        };
    }
}

/// The code unit that four hexadecimal digits are, and what comes after them.
fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = text.split_at_checked(4)?;
    let unit = digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    });
    Some((unit?, after))
}
