use std::fmt;

use bytes::Bytes;

use crate::Digest;

/// A component and its SHA-256, by which store and cache know it: hashed once, where it comes in. A clone is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Component {
    bytes: Bytes,
    digest: Digest,
}

impl Component {
    /// Hashes the bytes: of 64 MiB that takes some tenths of a second.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        Self { bytes, digest }
    }

    /// The component.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its SHA-256.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Component").field(&self.digest).finish()
    }
}
