use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use petiole_broker::Broker;

use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::registry::Registry;

/// What a worker does and has done: for readiness and metrics.
pub struct Status {
    broker: Arc<dyn Broker>,
    registry: Arc<Registry>,
    consuming: AtomicBool,
    pub(crate) results_outage: Arc<Outage>,
    pub(crate) metrics: Metrics,
}

impl Status {
    pub(crate) fn new(broker: Arc<dyn Broker>, registry: Arc<Registry>, hostname: &str) -> Self {
        Self {
            broker,
            registry,
            consuming: AtomicBool::new(false),
            results_outage: Arc::new(Outage::of("the result backend")),
            metrics: Metrics::new(hostname),
        }
    }

    /// Whether all tasks are taken: connected, not shutting down, with every module that is active and not refused, and
    /// with a result backend that takes what it is given.
    pub fn ready(&self) -> bool {
        self.unready().is_none()
    }

    /// What is in the way of that.
    pub fn unready(&self) -> Option<String> {
        if let Some(reason) = self.registry.unready() {
            return Some(reason);
        }
        if self.results_outage.lasts() {
            return Some("the result backend does not take what it is given".to_owned());
        }
        let taken = self.consuming.load(Ordering::Relaxed) && self.broker.connected();
        let reason = "no tasks are taken (broker not connected, or shutting down)";
        (!taken).then(|| reason.to_owned())
    }

    /// All metrics, in the text format of OpenMetrics 1.0, which Prometheus reads.
    pub fn metrics(&self) -> String {
        let failed = self.registry.not_loaded();
        let failed = failed.iter().map(|failed| &failed.module);
        let memory = self.registry.budget().usage();
        let messages = self.broker.held();
        self.metrics.text(self.ready(), failed, memory, messages)
    }

    pub(crate) fn set_consuming(&self, consuming: bool) {
        self.consuming.store(consuming, Ordering::Relaxed);
    }
}
