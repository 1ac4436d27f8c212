//! Tokens of Python's JSON: the kinds of numbers, and those that stand as marked strings.

/// Beginning of a marked string, in UTF-8 and as an escape.
pub(super) const MARK_BYTES: &[u8] = b"\xf4\x8f\xbf\xbf";
const MARK_ESCAPED: &[u8] = br"\udbff\udfff";
/// Any integer of no more digits fits 64 bits, and no number of no more bytes without an exponent is past the floats.
const SURELY_FITS: usize = 18;

/// Kinds of numbers that Python reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// `NaN`, `Infinity` or `-Infinity`.
    Named,
    Integer,
    /// With a fraction or an exponent.
    Float,
}

/// Reads a number (RFC 8259 section 6, and Python's names); none where it is not one.
pub(super) fn number(token: &[u8]) -> Option<Number> {
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

pub(super) fn is_exotic_number(token: &[u8]) -> bool {
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

/// True for a string that begins with the mark, or has a lone surrogate; false for one that is no string of JSON.
pub(super) fn is_exotic_string(token: &[u8]) -> bool {
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

/// True if there is one between the quotes of a string; none if that text can't stand there (RFC 8259 section 7).
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
