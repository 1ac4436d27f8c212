use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use petiole_celery::json;
use petiole_storage::results::ResultBackend;
use serde_json::json;
use tokio::runtime::Handle;

use super::body::Name;
use crate::actor::Actor;
use crate::error::ApiError;
use crate::state::Api;

/// The time that a request waits for its turn to read a result.
const RESULT_TURN: Duration = Duration::from_secs(15);

/// `GET /v1/results/{id}`: what is stored, in Celery's JSON; status PENDING for an id that is not known.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(id): Name,
) -> Result<impl IntoResponse, ApiError> {
    let Some(backend) = api.results.backend().cloned() else {
        let message =
            "this worker keeps no results: start it with --results redis://... or sqlite://...";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
    };
    let Some(place) = api.gate.results.take(&actor, RESULT_TURN).await else {
        return Err(ApiError::busy("too many results are being read"));
    };
    // A large result takes its time; no task has to wait for it.
    let runtime = Handle::current();
    let read = api.gate.work.spawn_blocking(move || {
        let _held = place;
        runtime.block_on(text(backend, id))
    });
    let text = read.await??;
    Ok(([(CONTENT_TYPE, "application/json")], text))
}

async fn text(backend: Arc<dyn ResultBackend>, id: String) -> Result<String, ApiError> {
    let stored = backend.fetch(&id).await;
    let stored = stored.map_err(|error| ApiError::fault(StatusCode::BAD_GATEWAY, error))?;
    let pending = || json!({ "task_id": json::string(id), "status": "PENDING", "result": null });
    Ok(json::Text(&stored.unwrap_or_else(pending)).to_string())
}
