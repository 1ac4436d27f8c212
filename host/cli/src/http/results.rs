use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use super::router::Api;

/// `GET /v1/results/{id}`: what is stored, in Celery's JSON; status PENDING for an id that is not known.
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let Some(backend) = api.results.backend() else {
        let message =
            "this worker keeps no results: start it with --results redis://... or sqlite://...";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
    };
    let stored = backend
        .fetch(&id)
        .await
        .map_err(|error| ApiError::fault(StatusCode::BAD_GATEWAY, error))?;
    Ok(Json(stored.unwrap_or_else(
        || json!({ "task_id": id, "status": "PENDING", "result": null }),
    )))
}
