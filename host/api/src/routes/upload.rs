use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::{Extension, Json};
use petiole_modules::{Component, ModuleName};
use petiole_runtime::MAX_COMPONENT_SIZE;
use petiole_worker::Installed;
use serde::Deserialize;

use super::body::{self, Name};
use super::form::{self, Form, MAX_FORM};
use super::modules::or_record;
use crate::actor::Actor;
use crate::administration::AdministrationError;
use crate::audit::Action;
use crate::documents::{InstalledDocument, MAX_WAIT};
use crate::door::Place;
use crate::error::ApiError;
use crate::state::Api;

/// The time for receiving an upload.
const UPLOAD: Duration = Duration::from_secs(120);

/// The time that an upload waits for its turn.
const UPLOAD_TURN: Duration = Duration::from_secs(120);

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
    form: Form,
    room: Place,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds; at most [`MAX_WAIT`].
    #[serde(default)]
    wait: u64,
}

/// `POST /v1/modules/{name}?wait=10`: the body is a form with the component, its manifest and its signature, or a
/// component alone. Waits that many seconds for all workers to have it.
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
    let installed = installed.await??;
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
    let room = room(api, actor).await?;
    let form = form(request).await?;
    Ok(Received { module, form, room })
}

/// A body that is no form is a component that comes alone.
async fn form(request: Request) -> Result<Form, ApiError> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let boundary = form::boundary(content_type.unwrap_or_default())?.map(str::to_owned);
    let Some(boundary) = boundary else {
        let component = body::bytes(request, "component", MAX_COMPONENT_SIZE, UPLOAD).await?;
        return Ok(Form {
            component,
            manifest: String::new(),
            signature: None,
        });
    };
    let form = body::bytes(request, "form", MAX_FORM, UPLOAD).await?;
    // Off the threads that run tasks: it is large.
    let read = tokio::task::spawn_blocking(move || Form::read(form, &boundary));
    Ok(read.await??)
}

/// Gone through with, though the client hangs up.
async fn install(api: Api, actor: Actor, received: Received) -> Result<Installed, ApiError> {
    let Received {
        module,
        form,
        room: _room,
    } = received;
    let Form {
        component,
        manifest,
        signature,
    } = form;
    // Off the threads that run tasks: it is large.
    let hashed = tokio::task::spawn_blocking(move || Component::new(component));
    let component = hashed.await?;
    let install = api.administration.install(
        &api.registry,
        actor,
        module.as_str(),
        component,
        &manifest,
        signature,
    );
    Ok(install.await?)
}
