use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::Name;
use super::error::ApiError;
use super::router::Api;
use crate::api::TaskDocument;

/// `GET /v1/tasks`
pub(super) async fn list(State(api): State<Api>) -> Json<Vec<TaskDocument>> {
    Json(
        api.registry
            .tasks()
            .iter()
            .map(|task| TaskDocument::from(&**task))
            .collect(),
    )
}

/// `GET /v1/tasks/{name}`
pub(super) async fn show(
    State(api): State<Api>,
    Name(name): Name,
) -> Result<Json<TaskDocument>, ApiError> {
    let task = api.registry.task(&name);
    let task =
        task.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("unknown task {name:?}")))?;
    Ok(Json(TaskDocument::from(&*task)))
}
