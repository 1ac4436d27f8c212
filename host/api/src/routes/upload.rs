use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use petiole_modules::{MAX_SIGNATURE, ModuleName, Upload};
use petiole_runtime::MAX_COMPONENT_SIZE;
use petiole_worker::Installed;
use serde::Deserialize;

use super::body::{self, Name};
use super::modules::or_record;
use crate::actor::Actor;
use crate::administration::{self, AdministrationError};
use crate::audit::Action;
use crate::documents::{InstalledDocument, MANIFEST_HEADER, MAX_WAIT, SIGNATURE_HEADER};
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
    let installed = api.gate.work.spawn(install(api.clone(), actor, received));
    let installed = installed.await;
    let installed =
        installed.map_err(|error| ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR, error))??;
    let document = api.administration.shared(&installed, wait).await;
    Ok((StatusCode::CREATED, Json(document)))
}

async fn received(
    api: &Api,
    actor: &Actor,
    name: &str,
    request: Request,
) -> Result<Received, ApiError> {
    let module: ModuleName = name.parse().map_err(AdministrationError::from)?;
    let manifest = text_of(request.headers(), MANIFEST_HEADER, MAX_MANIFEST)?;
    let signature = text_of(request.headers(), SIGNATURE_HEADER, MAX_SIGNATURE_HEADER)?;
    let upload = administration::upload(actor, &manifest.unwrap_or_default(), signature);
    let upload = upload.map_err(|error| {
        let message = format!("header {MANIFEST_HEADER}: {error}");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    let room = room(api, actor).await?;
    let component = body::bytes(request, "component", MAX_COMPONENT_SIZE, UPLOAD).await?;
    Ok(Received {
        module,
        upload,
        component: component.into(),
        room,
    })
}

/// Gone through with, though the client hangs up.
async fn install(api: Api, actor: Actor, received: Received) -> Result<Installed, ApiError> {
    let Received {
        module,
        upload,
        component,
        room: _room,
    } = received;
    let installed = api
        .administration
        .install(&api.registry, actor, module.as_str(), component, upload)
        .await;
    // A component may have hundreds of thousands of names.
    let _ = tokio::task::spawn_blocking(api.give_back).await;
    Ok(installed?)
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
