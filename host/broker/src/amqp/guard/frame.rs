//! AMQP 0-9-1 section 2.3.5: how frames are made.

/// Bytes before the payload: type, channel, size.
pub(super) const HEAD: usize = 7;
/// Bytes of a frame that are no payload.
pub(super) const OVERHEAD: usize = HEAD + 1;
/// The last byte of a frame.
pub(super) const END: u8 = 0xCE;
/// Bytes of a content header before its properties: class, weight, body size.
pub(super) const CONTENT: usize = 12;
/// Class and method.
pub(super) const METHOD: usize = 4;

pub(super) const TYPE_METHOD: u8 = 1;
pub(super) const TYPE_HEADER: u8 = 2;
pub(super) const TYPE_BODY: u8 = 3;
pub(super) const TYPE_HEARTBEAT: u8 = 8;

/// Reason why bytes are not AMQP as it was agreed. It ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("petiole's guard before the socket: {0}")]
pub(super) struct Fault(pub(super) String);

pub(super) fn fault<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(why.into()))
}

/// The fields before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) channel: u16,
    /// Bytes of payload.
    pub(super) size: usize,
}

impl Head {
    pub(super) fn read(bytes: [u8; HEAD]) -> Self {
        let [kind, c1, c0, s3, s2, s1, s0] = bytes;
        Self {
            kind,
            channel: u16::from_be_bytes([c1, c0]),
            size: usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX),
        }
    }
}

/// Writes a frame.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, channel: u16, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&length(size));
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(END);
}

/// AMQP's long length. Nothing that is written here comes near its limit.
pub(super) fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes()
}

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The same bytes, to look ahead.
    pub(super) fn ahead(self) -> Self {
        self
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    /// A short string (section 4.2.5.3).
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let mut ahead = self.ahead();
        let length = ahead.octet()?;
        let text = ahead.take(usize::from(length))?;
        *self = ahead;
        Some(text)
    }

    /// The length of a long string, a table or an array.
    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).ok()
    }
}

/// Writes a short string; what of it is no UTF-8 becomes U+FFFD. True if it was UTF-8.
pub(super) fn write_short(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let readable = String::from_utf8_lossy(text);
    let mut end = readable.len().min(usize::from(u8::MAX));
    while !readable.is_char_boundary(end) {
        end -= 1;
    }
    let kept = readable.as_bytes().get(..end).unwrap_or_default();
    out.push(u8::try_from(end).unwrap_or(u8::MAX));
    out.extend_from_slice(kept);
    kept == text
}
