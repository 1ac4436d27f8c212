//! JSON that is written as far as it may be.

use std::io;

use serde::Serialize;

/// A value's JSON.
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

/// Writes a value, or counts its bytes where they are more than the limit.
pub(crate) fn write(value: &impl Serialize, limit: usize) -> serde_json::Result<Written> {
    let mut written = Written {
        bytes: Vec::new(),
        size: 0,
        limit,
    };
    serde_json::to_writer(&mut written, value)?;
    Ok(written)
}

/// The bytes of a value's JSON.
pub(crate) fn size(value: &impl Serialize) -> usize {
    write(value, 0).map_or(usize::MAX, |written| written.size)
}
