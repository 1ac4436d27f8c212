//! Pauses between tries.

use std::time::Duration;

/// Pauses that double from the first to the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with the pause `first`, and doubles it up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        pause
    }

    /// The next pause, cut by up to half of it, so that a fleet does not come back all at once: `random` is from 0 to 1.
    pub fn jittered(&mut self, random: f64) -> Duration {
        self.pause().mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// Begins with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
        for _ in 0..2 {
            let pauses: Vec<_> = (0..5).map(|_| backoff.pause().as_millis()).collect();
            assert_eq!(pauses, [20, 40, 80, 100, 100]);
            backoff.reset();
        }
    }

    #[test]
    fn jitter_cuts_a_pause_by_half_at_most() {
        let pause =
            |random| Backoff::new(Duration::from_secs(2), Duration::from_secs(9)).jittered(random);
        assert_eq!(pause(0.0), Duration::from_secs(1));
        assert_eq!(pause(1.0), Duration::from_secs(2));
        assert_eq!(pause(f64::INFINITY), Duration::from_secs(2));
    }

    #[test]
    fn many_pauses_are_no_trouble() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..200 {
            backoff.pause();
        }
        assert_eq!(backoff.pause(), Duration::MAX);
    }
}
