//! The time and the tries that a plan has.

use std::time::Duration;

use petiole_permits::Backoff;
use tokio::time::Instant;

use super::Fault;
use crate::shutdown::{Shutdown, Stage};

/// Time for which a plan is tried in all, while a broker or a result backend is in trouble that may pass. Half of
/// RabbitMQ's default `consumer_timeout` (30 min). An answer that is awaited is not cut off by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Tries of a plan in all; its pauses alone take some 12 minutes then.
const TRIES: u32 = 150;
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// The tries that are left to a plan.
pub(super) struct Patience {
    deadline: Instant,
    tries: u32,
    backoff: Backoff,
}

impl Patience {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            tries: 0,
            backoff: BACKOFF,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.tries >= TRIES || Instant::now() >= self.deadline
    }

    /// Waits before the next try, unless the shutdown is cold.
    pub(super) async fn pause(&mut self, shutdown: &Shutdown) -> Result<(), Fault> {
        or_cold(shutdown, tokio::time::sleep(self.next_pause())).await
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        self.backoff.pause()
    }
}

/// Ends with what is done, unless the shutdown is cold before.
pub(super) async fn or_cold<T>(
    shutdown: &Shutdown,
    doing: impl Future<Output = T>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        done = doing => Ok(done),
        () = shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
    }
}
