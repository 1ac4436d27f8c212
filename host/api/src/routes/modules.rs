use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use petiole_modules::{Catalog, CatalogError, Digest, MAX_SIGNATURE, ModuleName, Upload};
use petiole_runtime::{CompileError, LoadError, MAX_COMPONENT_SIZE};
use petiole_worker::{InstallError, Installed, NotLoaded, workers_with};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Name};
use crate::audit::{Action, Actor, Entry};
use crate::documents::{
    InstalledDocument, MANIFEST_HEADER, MAX_WAIT, ModuleDocument, SIGNATURE_HEADER, VersionDocument,
};
use crate::door::Place;
use crate::error::ApiError;
use crate::state::Api;

/// How long receiving an upload may take.
const UPLOAD: Duration = Duration::from_secs(120);

/// How long an upload waits for its turn.
const UPLOAD_TURN: Duration = Duration::from_secs(120);

/// The largest manifest, in bytes of its base64: 64 KiB.
const MAX_MANIFEST: usize = 64 << 10;

/// The largest signature, in bytes of its base64.
const MAX_SIGNATURE_HEADER: usize = MAX_SIGNATURE.div_ceil(3) * 4;

/// `GET /v1/modules`
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<ModuleDocument>>, ApiError> {
    let store = api.registry.store().clone();
    in_catalog(&api, move |catalog| {
        let (modules, workers) = (catalog.list()?, store.workers()?);
        let document = |module| ModuleDocument::new(module, &workers);
        Ok(Json(modules.into_iter().map(document).collect()))
    })
    .await
}

/// `GET /v1/modules/{name}`
pub(super) async fn show(
    State(api): State<Api>,
    Name(name): Name,
) -> Result<Json<ModuleDocument>, ApiError> {
    let name = module_name(&name)?;
    let store = api.registry.store().clone();
    in_catalog(&api, move |catalog| {
        let (module, workers) = (catalog.show(&name)?, store.workers()?);
        Ok(Json(ModuleDocument::new(module, &workers)))
    })
    .await
}

/// Room for one upload, as soon as there is some: each is a component in memory.
async fn room(api: &Api, who: &Actor) -> Result<Place, ApiError> {
    let Some(_waiting) = api.gate.uploads_waiting.try_take(who) else {
        return Err(ApiError::busy("too many uploads are waiting"));
    };
    let room = api.gate.uploads.take(who, UPLOAD_TURN).await;
    room.ok_or_else(|| ApiError::busy("other uploads take their time"))
}

/// An upload, all of it. It keeps its room until it is installed.
struct Received {
    module: ModuleName,
    upload: Upload,
    component: Vec<u8>,
    room: Place,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds; at most [`MAX_WAIT`].
    #[serde(default)]
    wait: u64,
}

/// `POST /v1/modules/{name}?wait=10`: the body is the component; headers `x-petiole-manifest` and
/// `x-petiole-signature` are its manifest and its signature. Waits so many seconds for all workers to have it.
pub(super) async fn upload(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
    wait: Result<Query<Wait>, QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Json<InstalledDocument>), ApiError> {
    let received = match wait {
        Ok(Query(Wait { wait })) => received(&api, &actor, &name, request)
            .await
            .map(|received| (received, Duration::from_secs(wait.min(MAX_WAIT)))),
        Err(error) => Err(error.into()),
    };
    let (received, wait) = or_record(&api, &actor, Action::Upload, &name, received).await?;
    let (work, store) = (api.gate.work.clone(), api.registry.store().clone());
    let installed = work.spawn(async move { install(&api, actor, received).await });
    let installed = installed.await;
    let installed =
        installed.map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))??;
    let workers = workers_with(&store, &installed.module, installed.version, wait).await;
    // It is installed, whatever the workers' folder says.
    let workers = workers.unwrap_or_default();
    Ok((
        StatusCode::CREATED,
        Json(InstalledDocument::new(&installed, &workers)),
    ))
}

async fn received(
    api: &Api,
    actor: &Actor,
    name: &str,
    request: Request,
) -> Result<Received, ApiError> {
    let module = module_name(name)?;
    let mut upload = Upload::new(actor.name());
    if let Some(manifest) = text_of(request.headers(), MANIFEST_HEADER, MAX_MANIFEST)? {
        upload = upload.with_manifest(&manifest).map_err(|error| {
            let message = format!("header {MANIFEST_HEADER}: {error}");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        })?;
    }
    if let Some(signature) = text_of(request.headers(), SIGNATURE_HEADER, MAX_SIGNATURE_HEADER)? {
        upload = upload.with_signature(signature);
    }
    let room = room(api, actor).await?;
    let component = body::bytes(request, "component", MAX_COMPONENT_SIZE, UPLOAD).await?;
    Ok(Received {
        module,
        upload,
        component: component.into(),
        room,
    })
}

/// Installs and records it.
async fn install(api: &Api, actor: Actor, received: Received) -> Result<Installed, ApiError> {
    let Received {
        module,
        upload,
        component,
        room: _room,
    } = received;
    // Off the threads that run tasks: it is up to 64 MiB.
    let hashed = tokio::task::spawn_blocking(move || (Digest::of(&component), component));
    let hashed = hashed.await;
    let (digest, component) =
        hashed.map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    let installed = api
        .registry
        .install(
            module.as_str(),
            component,
            digest,
            upload.clone(),
            Timestamp::now(),
        )
        .await;
    let entry = Entry::upload(module.as_str(), digest, &upload, &installed);
    api.audit.record_async(actor, entry).await;
    // A component may have hundreds of thousands of names.
    let _ = tokio::task::spawn_blocking(api.give_back).await;
    installed.map_err(|error| match error {
        InstallError::Load(LoadError::Compile(CompileError::Busy)) => {
            ApiError::busy(&error.to_string())
        }
        error @ InstallError::Superseded { .. } => ApiError::new(StatusCode::CONFLICT, error),
        error @ InstallError::NotFollowed { .. } => {
            ApiError::fault(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        error if error.is_refusal() => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error),
        error => ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error),
    })
}

/// A header that holds a text as base64, of at most so many bytes; none where the text is empty.
fn text_of(headers: &HeaderMap, name: &str, limit: usize) -> Result<Option<String>, ApiError> {
    let Some(header) = headers.get(name) else {
        return Ok(None);
    };
    let refused = |reason: String| {
        let message = format!("header {name}: {reason}");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    };
    if header.len() > limit {
        return Err(refused(format!(
            "{} bytes, more than {limit}",
            header.len()
        )));
    }
    let text = BASE64_STANDARD
        .decode(header)
        .map_err(|error| refused(format!("not base64: {error}")))?;
    let text = String::from_utf8(text).map_err(|error| refused(format!("not UTF-8: {error}")))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// `POST /v1/modules/{name}/activate`: `{"version": 2}`
pub(super) async fn activate(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
    body: Result<Json<VersionDocument>, JsonRejection>,
) -> Result<Json<VersionDocument>, ApiError> {
    let asked = module_name(&name).and_then(|module| Ok((module, body?.0.version)));
    let (name, version) = or_record(&api, &actor, Action::Activate, &name, asked).await?;
    change(
        &api,
        actor,
        Action::Activate,
        &name,
        move |catalog, name, by| {
            let done = catalog.activate(name, version, by, Timestamp::now());
            done.map(|()| version)
        },
    )
    .await?;
    follow(&api, &name, version).await?;
    Ok(Json(VersionDocument { version }))
}

/// `POST /v1/modules/{name}/rollback`
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    Name(name): Name,
) -> Result<Json<VersionDocument>, ApiError> {
    let name = or_record(&api, &actor, Action::Rollback, &name, module_name(&name)).await?;
    let version = change(&api, actor, Action::Rollback, &name, |catalog, name, by| {
        catalog.rollback(name, by, Timestamp::now())
    })
    .await?;
    follow(&api, &name, version).await?;
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
    Extension(actor): Extension<Actor>,
    Name(name): Name,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let asked = module_name(&name).and_then(|module| Ok((module, removal?.0)));
    let (name, Removal { version, force }) =
        or_record(&api, &actor, Action::Remove, &name, asked).await?;
    change(
        &api,
        actor,
        Action::Remove,
        &name,
        move |catalog, name, _| {
            let done = catalog.remove(name, version, force, Timestamp::now());
            done.map(|()| version)
        },
    )
    .await?;
    refresh(&api).await?;
    Ok(Json(json!({})))
}

/// What was asked for; why it makes no sense goes into the audit too.
async fn or_record<T>(
    api: &Api,
    actor: &Actor,
    action: Action,
    name: &str,
    asked: Result<T, ApiError>,
) -> Result<T, ApiError> {
    if let Err(error) = &asked {
        let entry = Entry::refused(action, Some(name), Some(error.message().to_owned()));
        api.audit.record_async(actor.clone(), entry).await;
    }
    asked
}

/// Changes a module and records it, in one: a client that hangs up stops neither. What `work` returns is the
/// version that the entry names.
async fn change<V: Copy + Into<Option<u32>> + Send + 'static>(
    api: &Api,
    actor: Actor,
    action: Action,
    name: &ModuleName,
    work: impl FnOnce(&Catalog, &ModuleName, &str) -> Result<V, CatalogError> + Send + 'static,
) -> Result<V, ApiError> {
    let (audit, name) = (api.audit.clone(), name.clone());
    in_catalog(api, move |catalog| {
        let done = work(&catalog, &name, &actor.name());
        let entry = match &done {
            Ok(version) => Entry::done(action, name.as_str(), (*version).into()),
            Err(error) => Entry::refused(action, Some(name.as_str()), Some(error.to_string())),
        };
        audit.record(&actor, &entry);
        done
    })
    .await
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
    let done = api.gate.work.spawn_blocking(move || work(catalog)).await;
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

/// Follows a change of the active version. What this worker does not load, it does not take for done.
async fn follow(api: &Api, name: &ModuleName, version: u32) -> Result<(), ApiError> {
    refresh(api).await?;
    if api.registry.version(name) == Some(version) {
        return Ok(());
    }
    let not_loaded = api.registry.not_loaded();
    let failed = not_loaded
        .iter()
        .find(|failed| failed.module == *name && failed.version == version);
    let Some(NotLoaded {
        reason, refused, ..
    }) = failed
    else {
        let message = format!("version {version} of module {name} is no longer active");
        return Err(ApiError::new(StatusCode::CONFLICT, message));
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
    Err(ApiError::new(status, message))
}

/// This worker follows at once; others that share the store within a second.
async fn refresh(api: &Api) -> Result<(), ApiError> {
    let refreshed = api.registry.refresh().await;
    refreshed
        .map(drop)
        .map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))
}
