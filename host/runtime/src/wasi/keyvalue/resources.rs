//! The resources of `wasi:keyvalue`.

/// A module's part of the storage; the same for each that is opened.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct Bucket;

/// A compare-and-swap operation that has begun.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct Cas {
    /// The whole key, prefix and all.
    pub(super) key: String,
    pub(super) expected: Option<Vec<u8>>,
}
