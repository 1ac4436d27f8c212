//! The JSON texts of a guest, counted before they are read.

use crate::call::{LIFT_FACTOR, LIFT_FLOOR};

/// What a value takes in memory, in bytes, and what an array or object and a string take beside it: about.
const VALUE: usize = size_of::<serde_json::Value>();
const CONTAINER: usize = 320;
const STRING: usize = 32;

/// The texts of one result, or of all signatures that one task sends.
#[derive(Debug)]
pub(crate) struct JsonTexts {
    limit: usize,
    bytes: usize,
    memory: usize,
}

impl JsonTexts {
    /// `limit`: the limit of a result, in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            memory: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Counts one more.
    ///
    /// # Errors
    /// What all together count as, where that is over the limit: their bytes; or more, where their values take more
    /// memory than may be read out of a sandbox for a result of that size. (A value may take 150 times its text.)
    pub(crate) fn add(&mut self, text: &str) -> Result<(), usize> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes <= self.limit {
            self.memory = self.memory.saturating_add(memory(text));
        }
        let size = self
            .bytes
            .max(self.memory.saturating_sub(LIFT_FLOOR) / LIFT_FACTOR);
        if size > self.limit { Err(size) } else { Ok(()) }
    }
}

/// What a text's value takes, told by signs alone: it may be no JSON.
fn memory(text: &str) -> usize {
    let mut bytes = text.bytes();
    let mut memory = VALUE.saturating_add(text.len());
    while let Some(byte) = bytes.next() {
        memory = memory.saturating_add(match byte {
            b',' => VALUE,
            b'[' | b'{' => CONTAINER,
            b'"' => {
                skip_string(&mut bytes);
                STRING
            }
            _ => 0,
        });
    }
    memory
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn signs_in_strings_make_no_values() {
        for (text, taken) in [
            ("0", VALUE),
            (r#""[,\",[\\""#, VALUE + STRING),
            (r#"["a",["b"]]"#, 2 * VALUE + 2 * CONTAINER + 2 * STRING),
            (r#"{"\\":0}"#, VALUE + CONTAINER + STRING),
            (r#""no end\"#, VALUE + STRING),
        ] {
            assert_eq!(memory(text), taken + text.len(), "{text}");
        }
    }

    #[test]
    fn texts_count_together_and_by_what_they_take() {
        let mut texts = JsonTexts::new(10);
        let added = ["[1,2]", "\"abc\"", "", "0"].map(|text| texts.add(text));
        assert_eq!(added, [Ok(()), Ok(()), Ok(()), Err(11)]);

        const MIB: usize = 1 << 20;
        let plain = format!("\"{}\"", "[".repeat(8 * MIB - 2));
        assert_eq!(JsonTexts::new(8 * MIB).add(&plain), Ok(()));
        let deep = format!("{}{},", "[".repeat(100), "]".repeat(100));
        let deep = deep.repeat(4 * MIB / deep.len());
        let size = JsonTexts::new(8 * MIB).add(&deep).unwrap_err();
        assert!(size > 4 * deep.len(), "{size} of {}", deep.len());
    }
}
