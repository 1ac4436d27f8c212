use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use petiole_modules::{ModuleName, VersionNumber};
use petiole_worker::NotLoaded;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Name;
use crate::actor::Actor;
use crate::administration::{Administration, AdministrationError, Changed, module, modules};
use crate::audit::Action;
use crate::documents::{ModuleDocument, VersionDocument};
use crate::error::ApiError;
use crate::state::Api;

/// `GET /v1/modules`
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<ModuleDocument>>, ApiError> {
    blocking(&api, |administration| modules(&administration.store))
        .await
        .map(Json)
}

/// `GET /v1/modules/{name}`
pub(super) async fn show(
    State(api): State<Api>,
    Name(name): Name,
) -> Result<Json<ModuleDocument>, ApiError> {
    blocking(&api, move |administration| {
        module(&administration.store, &name)
    })
    .await
    .map(Json)
}

/// `POST /v1/modules/{name}/activate`: `{"version": 2}`
pub(super) async fn activate(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
    body: Result<Json<VersionDocument>, JsonRejection>,
) -> Result<Json<VersionDocument>, ApiError> {
    let asked = body.map_err(ApiError::from);
    let Json(VersionDocument { version }) =
        or_record(&api, &actor, Action::Activate, &name, asked).await?;
    let changed = blocking(&api, move |administration| {
        administration.activate(&actor, &name, version)
    });
    follow(&api, changed.await?).await
}

/// `POST /v1/modules/{name}/rollback`
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
) -> Result<Json<VersionDocument>, ApiError> {
    let changed = blocking(&api, move |administration| {
        administration.rollback(&actor, &name)
    });
    follow(&api, changed.await?).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    version: Option<u32>,
    #[serde(default)]
    force: bool,
}

/// `DELETE /v1/modules/{name}?version=1&force=true`: the whole module where no version is named.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let asked = removal.map_err(ApiError::from);
    let Query(Removal { version, force }) =
        or_record(&api, &actor, Action::Remove, &name, asked).await?;
    blocking(&api, move |administration| {
        administration.remove(&actor, &name, version, force)
    })
    .await?;
    refresh(&api).await?;
    Ok(Json(json!({})))
}

/// The parameters of a change; a request without such as make sense goes into the audit too.
pub(super) async fn or_record<T>(
    api: &Api,
    actor: &Actor,
    action: Action,
    name: &str,
    asked: Result<T, ApiError>,
) -> Result<T, ApiError> {
    if let Err(error) = &asked {
        let administration = &api.administration;
        administration
            .refuse(actor.clone(), action, name, error.message())
            .await;
    }
    asked
}

/// Goes through with what is begun: a client that hangs up stops neither a change nor its entry.
async fn blocking<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Administration) -> Result<T, AdministrationError> + Send + 'static,
) -> Result<T, ApiError> {
    let administration = api.administration.clone();
    let done = api.gate.work.spawn_blocking(move || work(&administration));
    Ok(done.await??)
}

/// Follows a change of the active version. What this worker does not load, it does not take for done.
async fn follow(
    api: &Api,
    changed: Changed<VersionNumber>,
) -> Result<Json<VersionDocument>, ApiError> {
    let Changed { module, version } = changed;
    refresh(api).await?;
    match api.registry.version(&module) == Some(version) {
        true => Ok(Json(VersionDocument { version })),
        false => Err(not_followed(api, &module, version)),
    }
}

fn not_followed(api: &Api, name: &ModuleName, version: VersionNumber) -> ApiError {
    let not_loaded = api.registry.not_loaded();
    let failed = not_loaded
        .iter()
        .find(|failed| failed.module == *name && failed.version == version);
    let Some(NotLoaded {
        reason, refused, ..
    }) = failed
    else {
        let message = format!("version {version} of module {name} is no longer active");
        return ApiError::new(StatusCode::CONFLICT, message);
    };
    let (status, what) = match refused {
        true => (StatusCode::UNPROCESSABLE_ENTITY, "refuses it"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "can't load it yet, tries again",
        ),
    };
    let message = format!(
        "version {version} of module {name} is active in the store, but this worker {what}, and goes on with what it \
         had: {reason}"
    );
    ApiError::new(status, message)
}

/// This worker follows at once; others that share the store within a second.
async fn refresh(api: &Api) -> Result<(), ApiError> {
    let refreshed = api.registry.refresh().await;
    refreshed
        .map(drop)
        .map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))
}
