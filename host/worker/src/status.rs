use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use petiole_broker::Broker;

use crate::metrics::Metrics;

/// What a worker does and has done: for readiness and metrics.
pub struct Status {
    broker: Arc<dyn Broker>,
    consuming: AtomicBool,
    pub(crate) metrics: Metrics,
}

impl Status {
    pub(crate) fn new(broker: Arc<dyn Broker>, hostname: &str) -> Self {
        Self {
            broker,
            consuming: AtomicBool::new(false),
            metrics: Metrics::new(hostname),
        }
    }

    /// Whether tasks are taken: connected, and not shutting down.
    pub fn ready(&self) -> bool {
        self.consuming.load(Ordering::Relaxed) && self.broker.connected()
    }

    /// All metrics, in the text format of OpenMetrics 1.0, which Prometheus reads.
    pub fn metrics(&self) -> String {
        self.metrics.text(self.ready())
    }

    pub(crate) fn set_consuming(&self, consuming: bool) {
        self.consuming.store(consuming, Ordering::Relaxed);
    }
}
