//! A limit that a guest ran into.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use petiole_permits::Limit;

/// A limit that a guest ran into: an error inside of wasmtime, a FAILURE outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) struct LimitExceeded {
    pub(crate) limit: Limit,
    /// In the limit's own unit; times are in microseconds.
    pub(crate) allowed: u64,
    /// The same: what the guest would have had with what it asked for.
    pub(crate) asked: u64,
}

impl LimitExceeded {
    pub(crate) fn new(limit: Limit, allowed: usize, asked: usize) -> Self {
        Self {
            limit,
            allowed: wide(allowed),
            asked: wide(asked),
        }
    }

    pub(crate) fn time(limit: Limit, allowed: Duration, used: Duration) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            limit,
            allowed: micros(allowed),
            asked: micros(used),
        }
    }
}

impl Display for LimitExceeded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.limit.message(self.allowed, self.asked))
    }
}

/// No machine has a wider usize.
pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use petiole_celery::Refusal;

    use super::*;

    #[test]
    fn the_limit_of_arguments_is_a_refusal_s() {
        assert_eq!(Limit::Arguments.exception(), Refusal::ARGUMENTS_TOO_LARGE);
    }
}
