//! Plain text for logs, failures and terminals.

use std::borrow::Cow;

/// The text with escapes for all that is not plain: it would let a task or a message forge log lines and drive
/// terminals.
pub fn escaped(message: &str) -> Cow<'_, str> {
    if !message.chars().any(is_unsafe) {
        return Cow::Borrowed(message);
    }
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            c if !is_unsafe(c) => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Controls, line and paragraph separators, and what reorders or hides text: Unicode's bidirectional
/// controls (UAX 9), zero-width and invisible characters, interlinear annotations and tags. A joiner
/// stands in the text of many languages: it shows nothing, but moves nothing either.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_is_no_plain_text_is_escaped() {
        for (message, shown) in [
            (
                "plain\tüñí 日本 👩\u{200d}🚀",
                "plain\tüñí 日本 👩\u{200d}🚀",
            ),
            ("a\u{1b}[31m\nb\r\u{0}", "a\\u{1b}[31m\\nb\\r\\u{0}"),
            ("\u{85}\u{9b}", "\\u{85}\\u{9b}"),
            ("\u{2028}x\u{2029}", "\\u{2028}x\\u{2029}"),
            (
                "\u{202e}\u{2066}\u{200f}\u{61c}",
                "\\u{202e}\\u{2066}\\u{200f}\\u{61c}",
            ),
            ("\u{200b}\u{feff}\u{e0041}", "\\u{200b}\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(escaped(message), shown);
        }
    }
}
