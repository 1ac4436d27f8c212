//! The number of requests that are served: by the second of each token and, of those without a right one, of each address;
//! and far fewer that are refused.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::peer::network;

/// Keys that a limiter remembers. Those that come on top share one bucket, until old ones are forgotten.
const MAX_KEYS: usize = 10_000;

/// Refusals of one token, and of one address without a right token: a burst at once, and then one per period.
const REFUSED_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const REFUSED_EVERY: Duration = Duration::from_secs(6);

/// The limits of one API.
pub(crate) struct Rates {
    addresses: Limiter<IpAddr>,
    wrong_tokens: Limiter<IpAddr>,
    tokens: Limiter<Arc<str>>,
    refused: Limiter<Arc<str>>,
}

/// A bucket for each key, and one for all whose key there is no room for.
struct Limiter<K: Clone + Hash + Eq> {
    buckets: RateLimiter<Option<K>, HashMapStateStore<Option<K>>, DefaultClock>,
}

impl Rates {
    /// Allows `per_second` requests per second, and twice as many at once.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let refused = Quota::with_period(REFUSED_EVERY).unwrap_or(Quota::per_minute(REFUSED_BURST));
        let refused = refused.allow_burst(REFUSED_BURST);
        Self {
            addresses: Limiter::new(quota),
            wrong_tokens: Limiter::new(refused),
            tokens: Limiter::new(quota),
            refused: Limiter::new(refused),
        }
    }

    /// A request without a right token from this address: how long it has to wait, where there were too many.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Duration> {
        self.addresses.spend(network(address))
    }

    /// A refusal of who has no right token, at this address.
    pub(crate) fn wrong_token(&self, address: IpAddr) -> Result<(), Duration> {
        self.wrong_tokens.spend(network(address))
    }

    /// A request with this token.
    pub(crate) fn token(&self, name: &Arc<str>) -> Result<(), Duration> {
        self.tokens.spend(Arc::clone(name))
    }

    /// A request with this token for what it does not open.
    pub(crate) fn refused(&self, name: &Arc<str>) -> Result<(), Duration> {
        self.refused.spend(Arc::clone(name))
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

impl<K: Clone + Hash + Eq> Limiter<K> {
    fn new(quota: Quota) -> Self {
        Self {
            buckets: RateLimiter::hashmap(quota),
        }
    }

    fn spend(&self, key: K) -> Result<(), Duration> {
        if self.buckets.len() >= MAX_KEYS {
            self.buckets.retain_recent();
        }
        let key = (self.buckets.len() < MAX_KEYS).then_some(key);
        self.buckets
            .check_key(&key)
            .map_err(|until| until.wait_time_from(self.buckets.clock().now()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

    #[test]
    fn each_has_a_bucket_of_its_own() {
        let rates = Rates::new(TWO);
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..4 {
            rates.address(one).unwrap();
        }
        let wait = rates.address(one).unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        rates.address(other).unwrap();
        for _ in 0..20 {
            rates.wrong_token(one).unwrap();
        }
        assert!(rates.wrong_token(one).unwrap_err() > Duration::from_secs(4));
        let (ci, app) = ("ci".into(), "app".into());
        rates.token(&ci).unwrap();
        for _ in 0..20 {
            rates.refused(&ci).unwrap();
        }
        rates.refused(&ci).unwrap_err();
        rates.refused(&app).unwrap();
        rates.token(&ci).unwrap();
    }

    #[test]
    fn the_memory_for_addresses_is_bounded() {
        let rates = Rates::new(NonZeroU32::MIN);
        for n in 0..20_000_u32 {
            let _ = rates.address(IpAddr::V4(n.into()));
        }
        assert!(rates.addresses.buckets.len() <= MAX_KEYS + 1);
        assert!(rates.address([200, 1, 2, 3].into()).is_err());
    }
}
