//! Freed memory that the allocator would keep.

use std::time::Duration;

/// The pause between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Bytes that may stay with the allocator: to give back less costs more than it is worth.
const SPARE: usize = 64 * 1024 * 1024;

/// Gives back what large tasks have left: their values lie in small pieces between others that live on, so that the
/// allocator keeps hundreds of megabytes of them.
pub(crate) async fn keep_small() {
    let Some(mut least) = resident() else {
        return;
    };
    loop {
        tokio::time::sleep(EVERY).await;
        if resident().is_some_and(|now| is_large(now, least, free())) {
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
        least = resident().map_or(least, |now| least.min(now));
    }
}

/// `free`: what the allocator has, part of which the system may have back already.
fn is_large(resident: usize, least: usize, free: usize) -> bool {
    resident.saturating_sub(least).min(free) > SPARE
}

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

/// Bytes that are freed and not given back; none is known where there is no glibc.
#[allow(unsafe_code, reason = "no safe wrapper at hand")]
fn free() -> usize {
    // SAFETY: it takes no pointer, and any thread may call it (mallinfo(3)).
    #[cfg(target_env = "gnu")]
    let free = unsafe { libc::mallinfo2() }.fordblks;
    #[cfg(not(target_env = "gnu"))]
    let free = 0;
    free
}

/// The process's memory, in bytes, where the system tells (proc_pid_status(5)).
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn only_what_is_worth_it_is_given_back() {
        assert!(is_large(500 * MIB, 100 * MIB, 400 * MIB));
        // it is in use
        assert!(!is_large(500 * MIB, 100 * MIB, 10 * MIB));
        // it has been given back
        assert!(!is_large(110 * MIB, 100 * MIB, 400 * MIB));
        assert!(!is_large(90 * MIB, 100 * MIB, 400 * MIB));
    }

    /// As a large result leaves it: many small pieces between few that live on.
    #[cfg(target_env = "gnu")]
    #[test]
    fn freed_memory_is_given_back() {
        let before = resident().unwrap_or_default();
        let mut pieces: Vec<Vec<u8>> = (0..400_000).map(|_| vec![1; 1000]).collect();
        let during = resident().unwrap_or_default();
        assert!(during > before + 300 * MIB, "{before} {during}");
        let mut index = 0;
        pieces.retain(|_| {
            index += 1;
            index % 1000 == 0
        });
        assert!(is_large(during, before, free()), "{}", free());
        give_back();
        let after = resident().unwrap_or(usize::MAX);
        assert!(after < during - 250 * MIB, "{before} {during} {after}");
        assert_eq!(pieces.len(), 400);
    }
}
