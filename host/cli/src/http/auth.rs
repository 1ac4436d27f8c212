use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::router::Api;

/// Lets a request with the bearer token pass. Wanted on loopback too: a web page could send requests there.
pub(super) async fn require_token(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| bool::from(given.ct_eq(api.token.as_bytes()))) {
        return next.run(request).await;
    }
    let message = "no or wrong bearer token: send `authorization: Bearer TOKEN` (for the command line: PETIOLE_TOKEN, \
                   or run it in the worker's folder)";
    (
        [(WWW_AUTHENTICATE, "Bearer")],
        ApiError::new(StatusCode::UNAUTHORIZED, message),
    )
        .into_response()
}
