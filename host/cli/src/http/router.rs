use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use petiole_broker::Broker;
use petiole_celery::Routes;
use petiole_results::Results;
use petiole_worker::{Registry, Status};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::{auth, health, modules, results, send, tasks};

/// The largest body of a request other than an upload: RabbitMQ's own limit for a message, 16 MiB.
const MAX_BODY: usize = 16 << 20;

/// How long open requests may take to end at shutdown.
const CLOSING: Duration = Duration::from_secs(5);

/// What the API serves from; a clone is cheap.
#[derive(Clone)]
pub(crate) struct Api {
    pub registry: Arc<Registry>,
    pub broker: Arc<dyn Broker>,
    pub results: Results,
    pub status: Arc<Status>,
    pub routes: Arc<Routes>,
    /// The node's name.
    pub hostname: Arc<str>,
    /// Header `origin` of what is sent.
    pub origin: Arc<str>,
    pub token: Arc<str>,
    /// Uploads held in memory at once.
    pub uploads: Arc<Semaphore>,
}

/// Serves until `shutdown`.
pub(crate) async fn serve(api: Api, listener: TcpListener, shutdown: CancellationToken) {
    let closing = shutdown.clone();
    let server = axum::serve(listener, router(api))
        .with_graceful_shutdown(async move { closing.cancelled().await });
    let limit = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CLOSING).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(target: "petiole", "the http api has ended: {error}");
        },
        () = limit => {}
    }
}

fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/modules", get(modules::list))
        .route(
            "/modules/{name}",
            get(modules::show)
                .post(modules::upload)
                .layer(DefaultBodyLimit::max(petiole_runtime::MAX_COMPONENT_SIZE))
                .delete(modules::remove),
        )
        .route("/modules/{name}/activate", post(modules::activate))
        .route("/modules/{name}/rollback", post(modules::rollback))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{name}", get(tasks::show))
        .route("/send", post(send::send))
        .route("/results/{id}", get(results::show))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route_layer(from_fn_with_state(api.clone(), auth::require_token));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .nest("/v1", v1)
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
        .with_state(api)
}
