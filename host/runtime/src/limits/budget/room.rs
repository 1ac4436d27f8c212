//! Memory beside that of runs, which is had in turn: whoever has some waits for nothing else of it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::budget::reading::{UNIT, units};

/// The part of a room that only small requests have, an eighth: so one that waits for much keeps none of them waiting.
const OF_SMALL: u32 = 8;
/// The part of a room up to which a request is small.
const SMALL: u32 = 64;

/// An amount of memory; a clone is the same.
#[derive(Debug, Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    total: u32,
    of_small: Arc<Semaphore>,
    total_of_small: u32,
}

/// A part of a [`Room`]. It goes back when this is dropped.
#[derive(Debug, Default)]
pub struct Taken {
    _units: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS / 2);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let of_small = units / OF_SMALL;
        Self {
            units: semaphore(units - of_small),
            total: units - of_small,
            of_small: semaphore(of_small),
            total_of_small: of_small,
        }
    }

    /// The most that may be had at once, in bytes.
    pub fn most(&self) -> usize {
        size(self.total)
    }

    /// In bytes.
    pub(super) fn used(&self) -> usize {
        let free = self.units.available_permits() + self.of_small.available_permits();
        self.most() + size(self.total_of_small) - free * UNIT
    }

    /// Waits for the bytes, or for [all](Self::most) that there is. A number too small to be counted does not wait.
    pub async fn take(&self, bytes: usize) -> Taken {
        let wanted = if bytes < UNIT {
            0
        } else {
            units(bytes).min(self.total)
        };
        let is_small = wanted <= (self.total + self.total_of_small) / SMALL;
        let acquire = |units: &Arc<Semaphore>| Arc::clone(units).acquire_many_owned(wanted);
        // They are never closed.
        let units = match wanted {
            0 => None,
            _ if is_small => tokio::select! {
                biased;
                units = acquire(&self.units) => units.ok(),
                units = acquire(&self.of_small) => units.ok(),
            },
            _ => acquire(&self.units).await.ok(),
        };
        Taken { _units: units }
    }
}

fn semaphore(units: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(
        usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS),
    ))
}

fn size(units: u32) -> usize {
    usize::try_from(units)
        .unwrap_or(usize::MAX)
        .saturating_mul(UNIT)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn take(room: &Room, bytes: usize) -> Option<Taken> {
        let take = pin!(room.take(bytes));
        match take.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    #[test]
    fn room_is_had_in_turn_and_never_more_than_there_is() {
        let room = Room::new(4 * UNIT);
        let some = take(&room, 3 * UNIT);
        assert!(some.is_some() && take(&room, 2 * UNIT).is_none());
        assert!(take(&room, UNIT - 1).is_some(), "it is too small");
        drop(some);
        let all = take(&room, usize::MAX);
        assert!(all.is_some() && take(&room, UNIT).is_none());
        drop(all);
        assert!(take(&room, UNIT).is_some());
        assert!(take(&Room::new(0), UNIT).is_some(), "one by one");
    }

    #[test]
    fn small_requests_do_not_wait_for_large_ones() {
        let room = Room::new(128 * UNIT);
        let large = take(&room, usize::MAX);
        assert_eq!(room.used(), 112 * UNIT);
        assert!(take(&room, 3 * UNIT).is_none());
        let small: Vec<Taken> = (0..9).filter_map(|_| take(&room, 2 * UNIT)).collect();
        assert_eq!((small.len(), room.used()), (8, 128 * UNIT));
        drop(large);
        assert!(take(&room, 2 * UNIT).is_some(), "they have all of it");
        drop(small);
        assert_eq!(room.used(), 0);
    }
}
