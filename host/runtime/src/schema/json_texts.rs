//! Memory of values in this process, counted before they are made.

use serde_json::Value;

/// The host memory that reading a value out of a sandbox may take, as a multiple of the result's
/// limit: a list of numbers has 40 bytes here for each two or more of JSON.
const LIFT_FACTOR: usize = 32;
/// And what any call may take, so that small limits of results do not stop host calls, which are read by the
/// same measure.
const LIFT_FLOOR: usize = 16 * 1024 * 1024;

/// Memory of a JSON value, in bytes, and of an array or object and a string beside it: about.
const VALUE: usize = size_of::<Value>();
const CONTAINER: usize = 320;
const STRING: usize = 32;

/// The most that the allocator adds to each piece of memory, in bytes.
const ALLOCATION: usize = 32;

/// An object's hash table, and its place in it and among its members for each of them.
const TABLE: usize = 64;
const MEMBER: usize = size_of::<(u64, String, Value)>() + 24;

/// Memory of a text beside its `String`, in bytes.
pub(crate) fn text_memory(len: usize) -> usize {
    len.saturating_add(ALLOCATION)
}

/// Memory of a vector of `len` values beside its `Vec`, or of a box.
pub(crate) fn values_memory<T>(len: usize) -> usize {
    text_memory(len.saturating_mul(size_of::<T>()))
}

/// Memory of the members of a JSON object, without their names.
pub(crate) fn members_memory(len: usize) -> usize {
    let members = len.saturating_mul(MEMBER);
    members.saturating_add(TABLE + 2 * ALLOCATION)
}

/// Memory of a JSON value beside itself.
pub(crate) fn memory_within(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text_memory(text.len()),
        Value::Array(items) => {
            let within = items.iter().map(memory_within).sum::<usize>();
            within.saturating_add(values_memory::<Value>(items.len()))
        }
        Value::Object(members) => {
            let within = members
                .iter()
                .map(|(name, value)| text_memory(name.len()).saturating_add(memory_within(value)));
            within
                .sum::<usize>()
                .saturating_add(members_memory(members.len()))
        }
    }
}

/// The host memory that one value out of a sandbox may take, in bytes.
pub(crate) fn lift_fuel(result: usize) -> usize {
    result
        .saturating_mul(LIFT_FACTOR)
        .saturating_add(LIFT_FLOOR)
}

/// The memory that values of one kind may take: those of one message, of one result, or of all signatures that one task
/// sends.
#[derive(Debug)]
pub(crate) struct ValueMemory {
    limit: usize,
    /// The most that they may take, in bytes.
    most: usize,
    taken: usize,
}

impl ValueMemory {
    /// `limit`: of the values' JSON, in bytes. They may take [`lift_fuel`] for it.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            most: lift_fuel(limit),
            taken: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Counts the bytes that values take.
    ///
    /// # Errors
    /// [`Self::size`], which is over the limit, where they take more than they may.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), usize> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.most {
            return Err(self.size().max(self.limit.saturating_add(1)));
        }
        Ok(())
    }

    /// In bytes.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// The message for values that would be within their limit, had the process more memory for them.
    pub(crate) fn beyond_budget(&self) -> Option<String> {
        let lowered = self.most < lift_fuel(self.limit);
        (lowered && self.taken > self.most).then(|| beyond_budget(self.most))
    }

    /// The bytes of JSON that all count as.
    fn size(&self) -> usize {
        self.taken.saturating_sub(LIFT_FLOOR).div_ceil(LIFT_FACTOR)
    }
}

/// The message for a result for which `memory_budget` has only `most` bytes, less than its own limit allows.
pub(crate) fn beyond_budget(most: usize) -> String {
    format!(
        "the result takes more than the {most} bytes of memory that one may take of the worker's memory_budget: raise that, or return less"
    )
}

/// The JSON texts of a guest, and the values beside them: of one result, or of all signatures that one task sends.
#[derive(Debug)]
pub(crate) struct JsonTexts {
    bytes: usize,
    pub(crate) values: ValueMemory,
}

impl JsonTexts {
    /// `limit`: the limit of a result, in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: 0,
            values: ValueMemory::new(limit),
        }
    }

    /// The same, where no more memory than `most` is for the values, in bytes.
    pub(crate) fn within(mut self, most: usize) -> Self {
        self.values.most = self.values.most.min(most);
        self
    }

    /// Counts one more, before it is read.
    ///
    /// # Errors
    /// The size that all together count as, where that is over the limit: their bytes; or more, where their values take more
    /// memory than those of a result may. (A value may take 150 times its text.)
    pub(crate) fn add(&mut self, text: &str) -> Result<(), usize> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > self.values.limit {
            return Err(self.bytes.max(self.values.size()));
        }
        self.values.take(memory(text))
    }
}

/// The levels of arrays and objects that a guest's JSON may have. Messages and results hold it within some more, and
/// Petiole itself reads 127 of them (serde_json's recursion limit).
pub(crate) const MAX_DEPTH: usize = 100;

/// True if it has more than [`MAX_DEPTH`] levels.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, MAX_DEPTH)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_deeper = |within: &Value| is_deeper(within, levels.saturating_sub(1));
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(is_deeper),
        Value::Object(members) => levels == 0 || members.values().any(is_deeper),
        _ => false,
    }
}

/// Digits of an integer that may be past 64 bits.
const LONG: usize = 19;

/// Memory of a text's value, told by signs alone: it may be no JSON.
pub(crate) fn memory(text: &str) -> usize {
    let mut bytes = text.bytes();
    let mut memory = VALUE.saturating_add(text.len());
    let mut digits = 0;
    while let Some(byte) = bytes.next() {
        digits = match byte {
            b'0'..=b'9' => digits + 1,
            _ => 0,
        };
        memory = memory.saturating_add(match byte {
            b',' => VALUE,
            b'[' | b'{' => CONTAINER,
            b'"' => {
                skip_string(&mut bytes);
                STRING
            }
            // these may be kept as strings, rather counted twice than not at all: `-0`, `NaN`, `Infinity`, `1e999`, and
            // an integer past 64 bits
            b'-' | b'N' | b'I' | b'e' | b'E' => STRING,
            _ if digits == LONG => STRING,
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
            ("[-0,Infinity]", 2 * VALUE + CONTAINER + 2 * STRING),
            ("18446744073709551616", VALUE + STRING),
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
