use std::sync::Arc;

use petiole_broker::Broker;
use petiole_celery::Routes;
use petiole_storage::results::Results;
use petiole_worker::{Registry, Status};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::administration::Administration;
use crate::door::{Places, Rates, Tokens};
use crate::settings::Settings;

/// The largest body of a request other than an upload: RabbitMQ's own limit for a message, 16 MiB.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// Such bodies in memory at once.
const BODIES: usize = 8;

/// Bytes of such bodies that are read, as JSON, at once: many small ones or one of the largest size. Read, JSON can
/// take 36 times its text.
pub(crate) const JSON_BYTES: usize = MAX_BODY;

/// Uploads that are held in memory at once, and those that may wait for their turn.
const UPLOADS: usize = 2;
const UPLOADS_WAITING: usize = 8;

/// Results that are read at once, each of which can take 36 times its text.
const RESULTS: usize = 2;

/// Everything that the API serves from; a clone is cheap.
#[derive(Clone)]
pub struct Api {
    /// The modules.
    pub registry: Arc<Registry>,
    /// Takes the tasks that are sent.
    pub broker: Arc<dyn Broker>,
    /// Has the results.
    pub results: Results,
    /// The worker's readiness and metrics.
    pub status: Arc<Status>,
    /// For a signature that names no queue.
    pub routes: Arc<Routes>,
    /// Header `origin` of what is sent.
    pub origin: Arc<str>,
    /// Changes the modules.
    pub administration: Administration,
    /// Whom it lets in.
    pub gate: Gate,
}

/// The limits on who gets in, and on how much at once; a clone is the same.
#[derive(Debug, Clone)]
pub struct Gate {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) rates: Arc<Rates>,
    /// A client has to show a certificate, beside its token.
    pub(crate) client_certificates: bool,
    /// `/metrics` needs no token.
    pub(crate) open_metrics: bool,
    pub(crate) uploads: Arc<Places>,
    pub(crate) uploads_waiting: Arc<Places>,
    pub(crate) bodies: Arc<Places>,
    pub(crate) json_bytes: Arc<Semaphore>,
    pub(crate) results: Arc<Places>,
    /// Changes, which are completed even if their clients hang up or the worker shuts down.
    pub(crate) work: TaskTracker,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Self {
        let tls = settings.tls.as_ref();
        Self {
            tokens: Arc::new(Tokens::new(&settings.tokens, settings.token.as_deref())),
            rates: Arc::new(Rates::new(settings.rate)),
            client_certificates: tls.is_some_and(|tls| tls.client_ca.is_some()),
            open_metrics: settings.open_metrics,
            uploads: Arc::new(Places::new(UPLOADS)),
            uploads_waiting: Arc::new(Places::new(UPLOADS_WAITING)),
            bodies: Arc::new(Places::new(BODIES)),
            json_bytes: Arc::new(Semaphore::new(JSON_BYTES)),
            results: Arc::new(Places::new(RESULTS)),
            work: TaskTracker::new(),
        }
    }
}
