//! What modules and tasks are asked of: a worker's HTTP API, or a store itself.

use std::sync::Arc;

use anyhow::anyhow;
use jiff::Timestamp;
use petiole_modules::{Catalog, CatalogError, Digest, ModuleName, Store, Upload};
use petiole_worker::{NotLoaded, Registry, workers_with};
use url::Url;

use crate::api::{Client, InstalledDocument, ModuleDocument, Push, TaskDocument};
use crate::audit::{Action, Actor, Entry};
use crate::cli::TargetArgs;
use crate::config::{Resolved, Sources, Written, api_url, is_loopback};
use crate::executor::block_on;
use crate::exit::{Failure, Result};
use crate::logging::escaped;
use crate::{client_tls, open, session};

/// Where modules are.
pub(super) enum Target {
    Api(Client),
    Store(Box<Resolved>),
}

impl Target {
    /// The one that flags name or, without any, the settings: an API before a store.
    pub(super) fn resolve(sources: Sources, args: TargetArgs) -> Result<Self> {
        let store_flag = args.store.is_some();
        let config = sources
            .resolve(Written::default().with_target(args))
            .map_err(Failure::usage)?;
        match &config.api.value {
            Some(api) if !store_flag => {
                let url = api_url(api).map_err(|reason| Failure::usage(anyhow!(reason)))?;
                let tls = client_tls::config(&url, &config.http)?;
                let token = token(&config, &url)?;
                Ok(Self::Api(Client::new(&url, token, tls)))
            }
            _ if config.store.is_given() => Ok(Self::Store(Box::new(config))),
            _ => Err(Failure::usage(anyhow!(
                "no worker is known here: start `petiole dev`, or `petiole worker --http 127.0.0.1:8000`, in this folder; or \
                 name a worker with --to URL, or a store with --store file://DIR"
            ))),
        }
    }

    pub(super) fn push(&self, push: Push) -> Result<InstalledDocument> {
        let config = match self {
            Self::Api(client) => return client.push(&push),
            Self::Store(config) => config,
        };
        let Push {
            name,
            component,
            manifest,
            signature,
            wait,
        } = push;
        let actor = Actor::local();
        let upload = Upload::new(actor.name()).with_manifest(&manifest);
        let mut upload = upload.map_err(Failure::usage)?;
        if let Some(signature) = signature {
            upload = upload.with_signature(signature);
        }
        let (audit, digest) = (open::audit(config)?, Digest::of(&component));
        in_registry(config, async |registry| {
            let installed = registry
                .install(&name, component, digest, upload.clone(), Timestamp::now())
                .await;
            audit.record(&actor, &Entry::upload(&name, digest, &upload, &installed));
            let installed = installed.map_err(|error| match error.is_refusal() {
                true => Failure::usage(error),
                false => Failure::failed(error),
            })?;
            let store = registry.store();
            let workers = workers_with(store, &installed.module, installed.version, wait).await;
            // It is installed, whatever the workers' folder says.
            let workers = workers.unwrap_or_default();
            Ok(InstalledDocument::new(&installed, &workers))
        })
    }

    pub(super) fn tasks(&self) -> Result<Vec<TaskDocument>> {
        match self {
            Self::Api(client) => client.tasks(),
            Self::Store(config) => in_registry(config, async |registry| {
                registry.refresh().await.map_err(Failure::failed)?;
                for NotLoaded { module, reason, .. } in registry.not_loaded() {
                    let reason = escaped(&reason);
                    eprintln!("the tasks of module {module} are left out: {reason}");
                }
                Ok(registry
                    .tasks()
                    .iter()
                    .map(|task| TaskDocument::from(&**task))
                    .collect())
            }),
        }
    }

    pub(super) fn modules(&self) -> Result<Vec<ModuleDocument>> {
        let config = match self {
            Self::Api(client) => return client.modules(),
            Self::Store(config) => config,
        };
        let store = store(config)?;
        let modules = store.catalog().list().map_err(catalog_failure)?;
        let workers = store.workers().map_err(Failure::failed)?;
        let document = |module| ModuleDocument::new(module, &workers);
        Ok(modules.into_iter().map(document).collect())
    }

    pub(super) fn module(&self, name: &str) -> Result<ModuleDocument> {
        let config = match self {
            Self::Api(client) => return client.module(name),
            Self::Store(config) => config,
        };
        let (store, name) = (store(config)?, module_name(name)?);
        let module = store.catalog().show(&name).map_err(catalog_failure)?;
        let workers = store.workers().map_err(Failure::failed)?;
        Ok(ModuleDocument::new(module, &workers))
    }

    pub(super) fn activate(&self, name: &str, version: u32) -> Result<()> {
        match self {
            Self::Api(client) => client.activate(name, version).map(drop),
            Self::Store(config) => change(config, Action::Activate, name, |catalog, name, by| {
                catalog.activate(name, version, by, Timestamp::now())?;
                Ok(((), Some(version)))
            }),
        }
    }

    pub(super) fn rollback(&self, name: &str) -> Result<u32> {
        match self {
            Self::Api(client) => client.rollback(name).map(|rolled| rolled.version),
            Self::Store(config) => change(config, Action::Rollback, name, |catalog, name, by| {
                let version = catalog.rollback(name, by, Timestamp::now())?;
                Ok((version, Some(version)))
            }),
        }
    }

    pub(super) fn remove(&self, name: &str, version: Option<u32>, force: bool) -> Result<()> {
        match self {
            Self::Api(client) => client.remove(name, version, force).map(drop),
            Self::Store(config) => change(config, Action::Remove, name, |catalog, name, _| {
                catalog.remove(name, version, force, Timestamp::now())?;
                Ok(((), version))
            }),
        }
    }
}

/// The token for the API at `url`. A session's goes to that session's worker only, and none over a network on which
/// others can read it.
fn token(config: &Resolved, url: &Url) -> Result<Option<String>> {
    let session = session::path().display().to_string();
    let (token, api) = (&config.http_token, &config.api);
    if token.origin == session && api.origin != session {
        return Ok(None);
    }
    let is_private = url.scheme() == "https" || is_loopback(url) || config.http.plain.value;
    if token.value.is_some() && !is_private {
        return Err(Failure::usage(anyhow!(
            "the token (from {}) would go to {} unencrypted: name the API as https:// (the worker needs http.tls.cert and \
             http.tls.key), or reach it on a loopback address; or, where the network is trusted, set http.plain = true or \
             PETIOLE_HTTP_PLAIN=true",
            token.origin,
            url.host_str().unwrap_or_default()
        )));
    }
    Ok(token.value.clone())
}

/// Works on a registry of this process; nothing runs in it.
fn in_registry<T>(
    config: &Resolved,
    work: impl AsyncFnOnce(Arc<Registry>) -> Result<T>,
) -> Result<T> {
    block_on(async {
        let grants = open::grants_to_nobody(config).await?;
        work(open::registry(config, 1, grants).await?).await
    })
}

/// Changes the catalog, and puts it into the audit.
fn change<T>(
    config: &Resolved,
    action: Action,
    name: &str,
    change: impl FnOnce(
        &Catalog,
        &ModuleName,
        &str,
    ) -> std::result::Result<(T, Option<u32>), CatalogError>,
) -> Result<T> {
    let (name, actor) = (module_name(name)?, Actor::local());
    let (audit, catalog) = (open::audit(config)?, catalog(config)?);
    let changed = change(&catalog, &name, &actor.name());
    let entry = match &changed {
        Ok((_, version)) => Entry::done(action, name.as_str(), *version),
        Err(error) => Entry::refused(action, Some(name.as_str()), Some(error.to_string())),
    };
    audit.record(&actor, &entry);
    changed.map(|(answer, _)| answer).map_err(catalog_failure)
}

fn catalog(config: &Resolved) -> Result<Catalog> {
    Ok(store(config)?.catalog())
}

fn store(config: &Resolved) -> Result<Store> {
    Store::open(&config.store.value).map_err(Failure::usage)
}

fn module_name(name: &str) -> Result<ModuleName> {
    name.parse()
        .map_err(|error: petiole_modules::NameError| Failure::usage(error))
}

fn catalog_failure(error: CatalogError) -> Failure {
    match error {
        CatalogError::UnknownModule { .. }
        | CatalogError::UnknownVersion { .. }
        | CatalogError::ActiveVersion { .. }
        | CatalogError::NoPrevious { .. } => Failure::usage(error),
        error => Failure::failed(error),
    }
}
