use std::fmt::Write;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use petiole_worker::{Count, Status};

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

/// Prometheus' text format.
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        text(&api.status, &api.hostname),
    )
}

/// celery-exporter's names where it has them, so that its dashboards work; Petiole's own otherwise.
fn name(count: Count) -> String {
    match count {
        Count::Received
        | Count::Started
        | Count::Succeeded
        | Count::Failed
        | Count::Retried
        | Count::Rejected => {
            format!("celery_task_{}_total", count.name())
        }
        Count::Ignored | Count::Refused | Count::Postponed | Count::Faults => {
            format!("petiole_task_{}_total", count.name())
        }
    }
}

fn text(status: &Status, hostname: &str) -> String {
    let label = hostname
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let gauges = [
        ("celery_worker_up", 1),
        ("celery_worker_tasks_active", status.active()),
        ("petiole_worker_ready", u64::from(status.ready())),
    ];
    let counters = Count::ALL.map(|count| (name(count), "counter", status.get(count)));
    let gauges = gauges.map(|(name, value)| (name.to_owned(), "gauge", value));
    let mut text = String::new();
    for (name, kind, value) in counters.into_iter().chain(gauges) {
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "# TYPE {name} {kind}\n{name}{{hostname=\"{label}\"}} {value}\n"
        );
    }
    text
}
