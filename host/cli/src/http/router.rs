use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use petiole_broker::Broker;
use petiole_celery::Routes;
use petiole_storage::results::Results;
use petiole_worker::{Registry, Status};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::access::Tokens;
use super::body::{self, BODIES, JSON_BYTES, MAX_BODY};
use super::error::ApiError;
use super::modules::Uploads;
use super::places::Places;
use super::rate::{self, Rates};
use super::results::RESULTS;
use super::{auth, health, modules, results, send, tasks};
use crate::audit::Audit;

/// How long what was begun may take at shutdown. What takes longer is an upload that is still being compiled, and
/// has changed nothing.
pub(super) const UNATTENDED: Duration = Duration::from_secs(30);

/// What the API serves from; a clone is cheap.
#[derive(Clone)]
pub(crate) struct Api {
    pub registry: Arc<Registry>,
    pub broker: Arc<dyn Broker>,
    pub results: Results,
    pub status: Arc<Status>,
    pub routes: Arc<Routes>,
    /// Header `origin` of what is sent.
    pub origin: Arc<str>,
    pub audit: Audit,
    pub gate: Gate,
}

/// Who gets in, and how much of it at once; a clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(super) tokens: Arc<Tokens>,
    pub(super) rates: Arc<Rates>,
    /// Whether a client has to show a certificate, beside its token.
    pub(super) client_certificates: bool,
    /// Whether `/metrics` needs no token.
    open_metrics: bool,
    pub(super) uploads: Arc<Uploads>,
    pub(super) bodies: Arc<Places>,
    pub(super) json_bytes: Arc<Semaphore>,
    pub(super) results: Arc<Places>,
    /// What is gone through with, though its client hangs up or the worker shuts down.
    pub(super) work: TaskTracker,
}

impl Gate {
    /// `rate`: requests per second, of each token and of each address that shows none.
    pub(crate) fn new(
        tokens: Tokens,
        rate: NonZeroU32,
        client_certificates: bool,
        open_metrics: bool,
    ) -> Self {
        Self {
            tokens: Arc::new(tokens),
            rates: Arc::new(Rates::new(rate)),
            client_certificates,
            open_metrics,
            uploads: Arc::default(),
            bodies: Arc::new(Places::new(BODIES)),
            json_bytes: Arc::new(Semaphore::new(JSON_BYTES)),
            results: Arc::new(Places::new(RESULTS)),
            work: TaskTracker::new(),
        }
    }
}

pub(super) fn router(api: Api) -> Router {
    let admit = from_fn_with_state(api.clone(), auth::admit);
    let receive = from_fn_with_state(api.clone(), body::receive);
    let limit = from_fn_with_state(api.clone(), rate::limit);
    let v1 = Router::new()
        .route("/v1/modules", get(modules::list))
        .route(
            "/v1/modules/{name}",
            get(modules::show)
                .post(modules::upload)
                .layer(DefaultBodyLimit::max(petiole_runtime::MAX_COMPONENT_SIZE))
                .delete(modules::remove),
        )
        .route(
            "/v1/modules/{name}/activate",
            post(modules::activate).layer(receive.clone()),
        )
        .route("/v1/modules/{name}/rollback", post(modules::rollback))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{name}", get(tasks::show))
        .route("/v1/send", post(send::send).layer(receive))
        .route("/v1/results/{id}", get(results::show))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route_layer(admit.clone());
    let metrics = Router::new().route("/metrics", get(health::metrics));
    let metrics = match api.gate.open_metrics {
        true => metrics,
        false => metrics.route_layer(admit),
    };
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(metrics)
        .merge(v1)
        .fallback(async || {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "no such path; see /v1/modules, /v1/tasks, /v1/send, /v1/results/{id}",
            )
        })
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method",
            )
        })
        .layer(limit)
        .with_state(api)
}
