//! Memory beside that of runs, which is had in turn: whoever has some waits for nothing else of it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reading::{UNIT, units};

/// So much memory; a clone is the same.
#[derive(Debug, Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    total: u32,
}

/// What somebody has of a [`Room`]. It goes back when this is dropped.
#[derive(Debug, Default)]
pub struct Taken {
    _units: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS / 2);
        Self {
            units: Arc::new(Semaphore::new(units)),
            total: u32::try_from(units).unwrap_or(u32::MAX),
        }
    }

    /// All there is, in bytes.
    pub fn total(&self) -> usize {
        size(self.total)
    }

    pub(super) fn used(&self) -> usize {
        self.total() - self.units.available_permits() * UNIT
    }

    /// Waits for so many bytes, or for all that there is. What is too small to be counted does not wait.
    pub async fn take(&self, bytes: usize) -> Taken {
        let wanted = if bytes < UNIT {
            0
        } else {
            units(bytes).min(self.total)
        };
        let units = match wanted {
            0 => None,
            // It is never closed.
            wanted => Arc::clone(&self.units)
                .acquire_many_owned(wanted)
                .await
                .ok(),
        };
        Taken { _units: units }
    }
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
}
