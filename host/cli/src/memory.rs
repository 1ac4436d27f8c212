//! What glibc's allocator would keep of freed memory.

/// Gives it back to the system: after work that takes much in small pieces, which lie between others that live on.
#[allow(
    unsafe_code,
    reason = "no safe wrapper at hand; unused where there is no glibc"
)]
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer, and any thread may call it (malloc_trim(3): MT-Safe).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
