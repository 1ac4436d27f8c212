use tokio::sync::watch;

/// The stage of a shutdown; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Tasks are taken and run.
    Running,
    /// No more tasks are taken; those that run are finished (Celery's warm shutdown).
    Warm,
    /// Running tasks are dropped, and their messages go back to their queues (Celery's cold shutdown).
    Cold,
}

/// Tells a worker to stop. Clones speak to the same worker.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A worker that runs.
    pub fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Running),
        }
    }

    /// Warm, unless it is cold already.
    pub fn warm(&self) {
        self.advance(Stage::Warm);
    }

    /// Cold.
    pub fn cold(&self) {
        self.advance(Stage::Cold);
    }

    /// The next stage: what each further SIGINT asks for.
    pub fn next(&self) {
        match self.stage() {
            Stage::Running => self.warm(),
            Stage::Warm | Stage::Cold => self.cold(),
        }
    }

    /// Its stage.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits until it has come to `stage`, or further.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|now| {
            let further = to > *now;
            *now = (*now).max(to);
            further
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_never_goes_back() {
        let shutdown = Shutdown::new();
        shutdown.next();
        assert_eq!(shutdown.stage(), Stage::Warm);
        shutdown.next();
        assert_eq!(shutdown.stage(), Stage::Cold);
        shutdown.warm();
        assert_eq!(shutdown.stage(), Stage::Cold);
    }
}
