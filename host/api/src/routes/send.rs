use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use petiole_broker::PublishError;
use petiole_celery::Signature;
use serde_json::{Value, json};

use super::body::CelerysJson;
use crate::error::ApiError;
use crate::send::{self, SendError};
use crate::state::Api;

/// `POST /v1/send`: a signature in Celery's JSON, `{"task": ..., "args": [...], "kwargs": {...}, "options": {...}}`.
/// Answers with the task's id when the broker has confirmed the message.
pub(super) async fn send(
    State(api): State<Api>,
    body: Result<CelerysJson, ApiError>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let CelerysJson(body) = body?;
    let signature = Signature::from_value(body)
        .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let sent = send::send(
        &*api.broker,
        &signature,
        &api.routes,
        &api.origin,
        Timestamp::now(),
    )
    .await;
    let task_id = sent.map_err(|error| match error {
        SendError::Signature(error) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error),
        SendError::Publish(error) => ApiError::new(status(&error), error),
    })?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "task_id": task_id }))))
}

fn status(error: &PublishError) -> StatusCode {
    if error.is_final() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::BAD_GATEWAY
    }
}
