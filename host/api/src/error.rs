use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinError;

use crate::administration::{AdministrationError, Kind};

/// The longest message, in bytes: it may quote what was uploaded.
const MAX_MESSAGE: usize = 16 * 1024;

/// An answer that is an error: `{"error": "..."}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl ToString) -> Self {
        let mut message = message.to_string();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push_str("...");
        }
        Self {
            status,
            message,
            retry_after: None,
        }
    }

    /// Sets `Retry-After`, in seconds.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// 503, with when to come again.
    pub(crate) fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(10)
    }

    /// 429, with when to come again.
    pub(crate) fn too_many(wait: Duration, message: &str) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        let message = format!("{message}: try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(seconds)
    }

    /// Its text.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// A fault of this worker or of what it depends on: logged, since its operator has to act.
    pub(crate) fn fault(status: StatusCode, message: impl ToString) -> Self {
        let error = Self::new(status, message);
        tracing::error!(target: "petiole", "http api: {}", error.message);
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.message }));
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// Of work that panicked, or that a shutdown cut off.
impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        Self::fault(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

impl From<AdministrationError> for ApiError {
    fn from(error: AdministrationError) -> Self {
        match error.kind() {
            Kind::Malformed => Self::new(StatusCode::BAD_REQUEST, error),
            Kind::Unknown => Self::new(StatusCode::NOT_FOUND, error),
            Kind::Conflict => Self::new(StatusCode::CONFLICT, error),
            Kind::Refused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error),
            Kind::Busy => Self::busy(&error.to_string()),
            Kind::NotFollowed => Self::fault(StatusCode::SERVICE_UNAVAILABLE, error),
            Kind::Host => Self::fault(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}
