//! Last words of a guest that crashes: panics, uncaught exceptions and failed assertions are written to stderr
//! before the trap, which itself says `unreachable`.

use crate::log::escape::escaped;

/// A message's length, in bytes: log lines and results hold it.
const MAX_MESSAGE: usize = 4 * 1024;
/// The most of stderr that a traceback quotes, in bytes.
const MAX_TEXT: usize = 8 * 1024;

/// An uncaught exception, as the guest's runtime tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LastWords {
    /// The message of the exception.
    pub(crate) message: String,
    /// The same with its place, as it was written.
    pub(crate) text: String,
}

/// The exception that stderr ends with; none where it ends with something else.
pub(crate) fn last_words(stderr: &str) -> Option<LastWords> {
    let lines: Vec<&str> = stderr.lines().collect();
    let (start, message) = panic(&lines).or_else(|| assertion(&lines))?;
    let text = lines.get(start..)?.iter().copied();
    let text: Vec<_> = text.filter(|line| !is_note(line)).collect();
    Some(LastWords {
        message: shown(message, MAX_MESSAGE),
        text: shown(&text, MAX_TEXT),
    })
}

/// A note of Rust's standard library after a panic, about a variable that whoever reads a task's log can't set.
pub(crate) fn is_note(line: &str) -> bool {
    line.starts_with("note: run with `RUST_BACKTRACE=")
}

/// A panic as Rust's standard library writes it, and with it the runtimes of Python and JavaScript:
/// `thread 'main' (1) panicked at src/lib.rs:1:2:`, the message, a note. The first line's index, and the message.
fn panic<'a>(lines: &'a [&'a str]) -> Option<(usize, &'a [&'a str])> {
    let is_panic = |line: &&str| {
        line.starts_with("thread '") && line.contains(" panicked at ") && line.ends_with(':')
    };
    let at = lines.iter().rposition(is_panic)?;
    let (before, panic) = (lines.get(..at)?, lines.get(at + 1..)?);
    let is_end = |line: &&str| is_note(line) || *line == "stack backtrace:";
    let end = panic.iter().position(is_end).unwrap_or(panic.len());
    Some(traceback(before).unwrap_or((at, panic.get(..end)?)))
}

/// Python's traceback, where it comes right before. Its message is what follows the indented lines.
fn traceback<'a>(lines: &'a [&'a str]) -> Option<(usize, &'a [&'a str])> {
    let begins = |line: &&str| *line == "Traceback (most recent call last):";
    let start = lines.iter().rposition(begins)?;
    let frames = lines.get(start + 1..)?;
    let message = frames.iter().position(|line| !line.starts_with(' '))?;
    Some((start, frames.get(message..)?))
}

/// A failed `assert` of C.
fn assertion<'a>(lines: &'a [&'a str]) -> Option<(usize, &'a [&'a str])> {
    let last = lines.iter().rposition(|line| !line.is_empty())?;
    let message = lines.get(last..)?;
    let failed = message.first()?.starts_with("Assertion failed: ");
    failed.then_some((last, message))
}

/// Lines without what would forge others and drive terminals, `limit` bytes at most.
fn shown(lines: &[&str], limit: usize) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() > limit {
            break;
        }
        text.push_str(&escaped(line));
        text.push('\n');
    }
    text.truncate(text.floor_char_boundary(limit));
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str =
        "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";

    fn words(message: &str, text: &str) -> Option<LastWords> {
        Some(LastWords {
            message: message.to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn panics_exceptions_and_assertions_are_told() {
        let at = "thread '<unnamed>' (1) panicked at src/lib.rs:12:5:";
        let python =
            "Traceback (most recent call last):\n  File \"/0/app.py\", line 68, in give_up\n";
        for (stderr, told) in [
            (String::new(), None),
            ("working\non it\n".to_owned(), None),
            (
                format!("working\n\n{at}\nno lines\n{NOTE}"),
                words("no lines", &format!("{at}\nno lines")),
            ),
            (
                format!("{at}\nin two\n\nparts"),
                words("in two\n\nparts", &format!("{at}\nin two\n\nparts")),
            ),
            (
                format!("{at}\nfirst\n\n{at}\nsecond\nstack backtrace:\n"),
                words("second", &format!("{at}\nsecond\nstack backtrace:")),
            ),
            (
                format!("{at}\n\u{1b}[31mred\n"),
                words("\\u{1b}[31mred", &format!("{at}\n\\u{{1b}}[31mred")),
            ),
            (
                format!("{python}ValueError: no\nlines\n\n{at}\nunexpected exception\n{NOTE}"),
                words(
                    "ValueError: no\nlines",
                    &format!("{python}ValueError: no\nlines\n\n{at}\nunexpected exception"),
                ),
            ),
            // logged, not uncaught
            (format!("{python}ValueError: no lines\n"), None),
            (
                "Assertion failed: a == b (app.c: f: 92)\n".to_owned(),
                words(
                    "Assertion failed: a == b (app.c: f: 92)",
                    "Assertion failed: a == b (app.c: f: 92)",
                ),
            ),
            ("Assertion failed: handled\ngoing on\n".to_owned(), None),
        ] {
            assert_eq!(last_words(&stderr), told, "{stderr}");
        }
    }

    #[test]
    fn no_more_than_the_limit_is_told() {
        let message = "é".repeat(MAX_TEXT);
        let told = last_words(&format!("thread 'main' panicked at a:1:1:\n{message}"));
        let sizes = told.map(|LastWords { message, text }| (message.len(), text.len()));
        assert!(
            matches!(sizes, Some((4095..=MAX_MESSAGE, 8191..=MAX_TEXT))),
            "{sizes:?}"
        );
    }
}
