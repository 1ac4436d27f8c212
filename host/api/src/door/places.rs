//! Places for what takes memory. All tokens share them; one token has half of them at most, so that it keeps no
//! other one waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::actor::Actor;

/// A number of places.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    of_one: usize,
    /// By token; there are no more than are configured.
    shares: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _of_one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(places)),
            of_one: (places / 2).max(1),
            shares: Mutex::default(),
        }
    }

    /// A place for who asks, where one comes free in time.
    pub(crate) async fn take(&self, who: &Actor, within: Duration) -> Option<Place> {
        let (share, all) = (self.share(who), Arc::clone(&self.all));
        let place = async {
            Some(Place {
                _of_one: share.acquire_owned().await.ok()?,
                _of_all: all.acquire_owned().await.ok()?,
            })
        };
        tokio::time::timeout(within, place).await.ok().flatten()
    }

    /// A place for who asks, where one is free.
    pub(crate) fn try_take(&self, who: &Actor) -> Option<Place> {
        Some(Place {
            _of_one: self.share(who).try_acquire_owned().ok()?,
            _of_all: Arc::clone(&self.all).try_acquire_owned().ok()?,
        })
    }

    fn share(&self, who: &Actor) -> Arc<Semaphore> {
        let token = who.token.clone().unwrap_or_default();
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.entry(token);
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.of_one))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn actor(token: &str) -> Actor {
        Actor {
            token: Some(token.into()),
            ..Actor::default()
        }
    }

    #[tokio::test]
    async fn one_token_has_half_of_the_places() {
        for (places, of_one) in [(8, 4), (2, 1), (1, 1)] {
            let places = Places::new(places);
            let taken: Vec<_> = (0..10)
                .map_while(|_| places.try_take(&actor("a")))
                .collect();
            assert_eq!(taken.len(), of_one);
        }
        let places = Places::new(2);
        let first = places.try_take(&actor("a")).unwrap();
        let soon = Duration::from_millis(20);
        assert!(places.take(&actor("a"), soon).await.is_none());
        let second = places.take(&actor("b"), soon).await.unwrap();
        assert!(places.take(&actor("c"), soon).await.is_none());
        drop((first, second));
        assert!(places.take(&actor("a"), soon).await.is_some());
    }
}
