use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::Name;
use crate::documents::TaskDocument;
use crate::error::ApiError;
use crate::state::Api;

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
    if let Some(task) = task {
        return Ok(Json(TaskDocument::from(&*task)));
    }
    Err(match api.registry.awaited(&name) {
        None => ApiError::new(StatusCode::NOT_FOUND, format!("unknown task {name:?}")),
        Some(reason) => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("task {name:?} does not answer here: {reason}"),
        ),
    })
}
