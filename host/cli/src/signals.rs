//! Signals to shutdown stages, as Celery's worker takes them.

use petiole_worker::{Shutdown, Stage};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals a worker listens to: TERM warm, QUIT cold, INT the next stage.
pub(crate) struct Signals {
    term: Signal,
    quit: Signal,
    int: Signal,
}

impl Signals {
    /// Takes the signals over; from here on they don't end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The next of them.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// Passes them on, for as long as it is polled.
    pub(crate) async fn pass_on(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                _ = self.term.recv() => shutdown.warm(),
                _ = self.quit.recv() => shutdown.cold(),
                _ = self.int.recv() => shutdown.next(),
            }
            match shutdown.stage() {
                Stage::Running => {}
                Stage::Warm => {
                    tracing::warn!(target: "petiole", "worker: warm shutdown: running tasks are finished (again: Ctrl-C, or QUIT, to give them back to their queues)")
                }
                Stage::Cold => {
                    tracing::warn!(target: "petiole", "worker: cold shutdown: running tasks go back to their queues")
                }
            }
        }
    }
}
