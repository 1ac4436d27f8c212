use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::router::Api;

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tasks are taken: follows the broker's connection, and ends with a shutdown.
pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, &'static str) {
    if api.status.ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: no tasks are taken (broker not connected, or shutting down)\n",
        )
    }
}

/// OpenMetrics' text format, which Prometheus reads.
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        api.status.metrics(),
    )
}
