//! Trouble of a server that may pass.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::causes::causes;

/// Whether a server is in trouble: said once when it begins, once when it is over.
pub(crate) struct Outage {
    server: &'static str,
    down: AtomicBool,
}

impl Outage {
    pub(crate) fn of(server: &'static str) -> Self {
        Self {
            server,
            down: AtomicBool::new(false),
        }
    }

    pub(crate) fn begins(&self, error: &dyn std::error::Error) {
        if self.down.swap(true, Ordering::Relaxed) {
            tracing::debug!(target: "petiole", "{}", causes(error));
        } else {
            tracing::warn!(target: "petiole", "{} does not take what it is given, and is tried again: {}", self.server, causes(error));
        }
    }

    pub(crate) fn ends(&self) {
        if self.down.load(Ordering::Relaxed) && self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "petiole", "{} takes what it is given again", self.server);
        }
    }

    pub(crate) fn lasts(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}
