//! The routes, and what each answers.

mod auth;
mod body;
mod form;
pub(crate) mod health;
mod modules;
mod results;
mod send;
mod tasks;
mod upload;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use self::form::MAX_FORM;
use crate::error::ApiError;
use crate::state::{Api, MAX_BODY};

/// All routes. Each request passes the rates first, then, where it needs one, its token.
pub(crate) fn router(api: Api) -> Router {
    let admit = from_fn_with_state(api.clone(), auth::admit);
    let receive = from_fn_with_state(api.clone(), body::receive);
    let limit = from_fn_with_state(api.clone(), auth::limit);
    let v1 = Router::new()
        .route("/v1/modules", get(modules::list))
        .route(
            "/v1/modules/{name}",
            get(modules::show)
                .post(upload::upload)
                .layer(DefaultBodyLimit::max(MAX_FORM))
                .delete(modules::remove),
        )
        .route(
            "/v1/modules/{name}/activate",
            post(modules::activate).layer(receive.clone()),
        )
        .route("/v1/modules/{name}/rollback", post(modules::rollback))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{name}", get(tasks::show))
        .route("/v1/send", post(send::send).layer(receive))
        .route("/v1/results/{id}", get(results::show))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route_layer(admit.clone());
    let metrics = Router::new().route("/metrics", get(health::metrics));
    let metrics = match api.gate.open_metrics {
        true => metrics,
        false => metrics.route_layer(admit),
    };
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(metrics)
        .merge(v1)
        .fallback(async || {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "no such path; see /v1/modules, /v1/tasks, /v1/send, /v1/results/{id}",
            )
        })
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method",
            )
        })
        .layer(limit)
        .with_state(api)
}
