//! The beginning of a text: what a task says of itself is not written without end.

use std::fmt::{self, Display, Write};

/// Characters of a result or an exception that a line shows; Celery's `resultrepr_maxsize`.
pub(super) const EXCERPT: usize = 1024;

/// The beginning of a value.
pub(crate) fn excerpt(value: impl Display) -> String {
    let mut excerpt = Excerpt::default();
    // An error says that there is no more room.
    let _ = write!(excerpt, "{value}");
    excerpt.text
}

/// A writer of more than fits gets an error, and stops.
#[derive(Default)]
struct Excerpt {
    text: String,
    characters: usize,
}

impl Write for Excerpt {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = EXCERPT.saturating_sub(self.characters);
        match more.char_indices().nth(room) {
            None => {
                self.text.push_str(more);
                self.characters += more.chars().count();
                Ok(())
            }
            Some((end, _)) => {
                if self.characters <= EXCERPT {
                    self.text.push_str(more.get(..end).unwrap_or_default());
                    self.text.push('…');
                }
                self.characters = EXCERPT + 1;
                Err(fmt::Error)
            }
        }
    }
}
