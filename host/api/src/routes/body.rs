//! Receiving bodies, with limits on size, time and number at once; and reading JSON, with a limit on bytes at once.

use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use petiole_celery::json;
use serde_json::Value;

use crate::actor::Actor;
use crate::error::ApiError;
use crate::state::{Api, MAX_BODY};

/// The time for receiving a body other than an upload, and for waiting for a place for it.
const RECEIVE: Duration = Duration::from_secs(15);

/// Receives the body before the handler runs, and lets it run when there is room for what it reads.
pub(super) async fn receive(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    request: Request,
    next: Next,
) -> Response {
    let Some(_place) = api.gate.bodies.take(&actor, RECEIVE).await else {
        return ApiError::busy("too many requests are being received").into_response();
    };
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let bytes = match bytes(whole, "body", MAX_BODY, RECEIVE).await {
        Ok(bytes) => bytes,
        Err(error) => return error.into_response(),
    };
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let room = api.gate.json_bytes.acquire_many(length);
    let Ok(Ok(_room)) = tokio::time::timeout(RECEIVE, room).await else {
        return ApiError::busy("other requests take their time").into_response();
    };
    next.run(Request::from_parts(parts, Body::from(bytes)))
        .await
}

/// The whole body of a request; `what` names it. The router's `DefaultBodyLimit` must not be less than `limit`.
pub(super) async fn bytes(
    request: Request,
    what: &str,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the {what} is larger than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let received = tokio::time::timeout(time, Bytes::from_request(request, &())).await;
    let received = received.map_err(|_| {
        let message = format!(
            "the {what} took longer than {} s to come in",
            time.as_secs()
        );
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
    })?;
    match received {
        Ok(bytes) if bytes.len() > limit => Err(too_large()),
        Ok(bytes) => Ok(bytes),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
    }
}

/// A body of JSON as Celery has it, with Python's numbers and strings.
pub(super) struct CelerysJson(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for CelerysJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json")) {
            let message = format!(
                "the body is {}: send it with `content-type: application/json`",
                content_type.unwrap_or("of no content type")
            );
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let body = Bytes::from_request(request, state).await;
        let body =
            body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
        let value = json::parse(&body);
        let value = value.map_err(|error| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("the body is not JSON: {error}"),
            )
        })?;
        Ok(Self(value))
    }
}

/// The one parameter of a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
        }
    }
}
