use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use petiole_modules::{Catalog, CatalogError, Manifest, Module, ModuleName};
use petiole_runtime::MAX_COMPONENT_SIZE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::router::Api;
use crate::api::{InstalledDocument, MANIFEST_HEADER, VersionDocument};

/// How long receiving an upload may take.
const UPLOAD: Duration = Duration::from_secs(120);

/// The largest manifest, in bytes of its base64: 64 KiB.
const MAX_MANIFEST: usize = 64 << 10;

/// `GET /v1/modules`
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<Module>>, ApiError> {
    in_catalog(&api, |catalog| catalog.list()).await.map(Json)
}

/// `GET /v1/modules/{name}`
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Module>, ApiError> {
    let name = module_name(&name)?;
    in_catalog(&api, move |catalog| catalog.show(&name))
        .await
        .map(Json)
}

/// `POST /v1/modules/{name}`: the body is the component, header `x-petiole-manifest` its manifest.
pub(super) async fn upload(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<InstalledDocument>), ApiError> {
    let name = module_name(&name)?;
    let manifest = manifest(request.headers())?;
    let Ok(_upload) = api.uploads.acquire().await else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down",
        ));
    };
    let component = receive(request).await?;
    let installed = api
        .registry
        .install(name.as_str(), component, manifest, Timestamp::now())
        .await;
    let installed = installed.map_err(|error| match error.is_refusal() {
        true => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error),
        false => ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error),
    })?;
    Ok((
        StatusCode::CREATED,
        Json(InstalledDocument::from(&installed)),
    ))
}

async fn receive(request: Request) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let message = format!("the component is larger than {MAX_COMPONENT_SIZE} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_COMPONENT_SIZE) {
        return Err(too_large());
    }
    let received = tokio::time::timeout(UPLOAD, Bytes::from_request(request, &())).await;
    let received = received.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the upload took longer than {} s", UPLOAD.as_secs()),
        )
    })?;
    match received {
        Ok(component) => Ok(component.into()),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
    }
}

fn manifest(headers: &HeaderMap) -> Result<Manifest, ApiError> {
    let Some(header) = headers.get(MANIFEST_HEADER) else {
        return Ok(Manifest::default());
    };
    let refused = |reason: String| {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("header {MANIFEST_HEADER}: {reason}"),
        )
    };
    if header.len() > MAX_MANIFEST {
        return Err(refused(format!(
            "{} bytes, more than {MAX_MANIFEST}",
            header.len()
        )));
    }
    let toml = BASE64_STANDARD
        .decode(header)
        .map_err(|error| refused(format!("not base64: {error}")))?;
    let toml = String::from_utf8(toml).map_err(|error| refused(format!("not UTF-8: {error}")))?;
    Manifest::from_toml(&toml).map_err(|error| refused(error.to_string()))
}

/// `POST /v1/modules/{name}/activate`: `{"version": 2}`
pub(super) async fn activate(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Result<Json<VersionDocument>, JsonRejection>,
) -> Result<Json<VersionDocument>, ApiError> {
    let (name, Json(VersionDocument { version })) = (module_name(&name)?, body?);
    in_catalog(&api, move |catalog| catalog.activate(&name, version)).await?;
    refresh(&api).await?;
    Ok(Json(VersionDocument { version }))
}

/// `POST /v1/modules/{name}/rollback`
pub(super) async fn rollback(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<VersionDocument>, ApiError> {
    let name = module_name(&name)?;
    let version = in_catalog(&api, move |catalog| catalog.rollback(&name)).await?;
    refresh(&api).await?;
    Ok(Json(VersionDocument { version }))
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
    Path(name): Path<String>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (name, Query(Removal { version, force })) = (module_name(&name)?, removal?);
    in_catalog(&api, move |catalog| {
        catalog.remove(&name, version, force, Timestamp::now())
    })
    .await?;
    refresh(&api).await?;
    Ok(Json(json!({})))
}

fn module_name(name: &str) -> Result<ModuleName, ApiError> {
    name.parse()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))
}

/// The catalog blocks.
async fn in_catalog<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(Catalog) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, ApiError> {
    let catalog = api.registry.catalog();
    let done = tokio::task::spawn_blocking(move || work(catalog)).await;
    let done = done.map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    done.map_err(|error| match error {
        CatalogError::UnknownModule { .. } | CatalogError::UnknownVersion { .. } => {
            ApiError::new(StatusCode::NOT_FOUND, error)
        }
        CatalogError::ActiveVersion { .. } | CatalogError::NoPrevious { .. } => {
            ApiError::new(StatusCode::CONFLICT, error)
        }
        error => ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error),
    })
}

/// This worker follows at once; others that share the store within a second.
async fn refresh(api: &Api) -> Result<(), ApiError> {
    let refreshed = api.registry.refresh().await;
    refreshed
        .map(drop)
        .map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))
}
