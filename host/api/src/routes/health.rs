use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::state::Api;

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// All tasks are taken: follows the broker's connection and the modules, and ends with a shutdown.
pub(crate) async fn readyz(State(api): State<Api>) -> (StatusCode, String) {
    match api.status.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => unready(&reason),
    }
}

/// Not all tasks are taken, for this reason.
pub(crate) fn unready(reason: &str) -> (StatusCode, String) {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {reason}\n"),
    )
}

/// OpenMetrics' text format, which Prometheus reads.
pub(crate) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        api.status.metrics(),
    )
}
