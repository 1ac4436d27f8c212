use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use petiole_broker::Broker;

use crate::catalog::registry::Registry;
use crate::tell::metrics::Metrics;
use crate::tell::outage::Outages;

/// A worker's readiness and its metrics.
pub struct Status {
    broker: Arc<dyn Broker>,
    registry: Arc<Registry>,
    consuming: AtomicBool,
    pub(crate) outages: Arc<Outages>,
    pub(crate) metrics: Metrics,
}

impl Status {
    pub(crate) fn new(broker: Arc<dyn Broker>, registry: Arc<Registry>, hostname: &str) -> Self {
        Self {
            broker,
            registry,
            consuming: AtomicBool::new(false),
            outages: Arc::default(),
            metrics: Metrics::new(hostname),
        }
    }

    /// True while all tasks are taken: connected, not shutting down, with every module that is active and not refused, and
    /// with a result backend and a quarantine queue that take what they are given.
    pub fn ready(&self) -> bool {
        self.unready().is_none()
    }

    /// The reason why not.
    pub fn unready(&self) -> Option<String> {
        if let Some(reason) = self.registry.unready() {
            return Some(reason);
        }
        if let Some(server) = self.outages.server() {
            return Some(format!("{server} does not take what it is given"));
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
