//! The place of modules and tasks: a worker's HTTP API, or a store itself.

use anyhow::anyhow;
use petiole_api::Actor;
use petiole_api::Administration;
use petiole_api::documents::{InstalledDocument, ModuleDocument, TaskDocument};
use petiole_modules::{Component, Store};
use petiole_worker::{NotLoaded, declared_tasks};
use url::Url;

use crate::cli::TargetArgs;
use crate::client::{Client, Push};
use crate::config::{Config, Flags, Sources, api_url, is_loopback};
use crate::executor::block_on;
use crate::exit::{Failure, Result};
use crate::logging::escaped;
use crate::{client_tls, open, session};

/// The place of modules.
pub(super) enum Target {
    Api(Client),
    Store(Box<Config>),
}

impl Target {
    /// The one that flags name or, without any, the settings: an API before a store.
    pub(super) fn resolve(sources: Sources, args: TargetArgs) -> Result<Self> {
        let store_flag = args.store.is_some();
        let config = sources
            .resolve(Flags::default().with(&args))
            .map_err(Failure::usage)?;
        match &config.client.api {
            Some(api) if !store_flag => {
                let url = api_url(api).map_err(|reason| Failure::usage(anyhow!(reason)))?;
                let tls = client_tls::config(&url, &config.client)?;
                let token = token(&config, &url)?;
                Ok(Self::Api(Client::new(&url, token, tls)))
            }
            _ if config.modules.origins.has("store") => Ok(Self::Store(Box::new(config))),
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
        let component = Component::new(push.component);
        let administration = administration(config)?;
        block_on(async {
            // No task runs in it.
            let grants = open::grants_to_nobody(&config.grants).await?;
            let registry = open::registry(config, 1, grants).await?;
            let installed = administration.install(
                &registry,
                Actor::local(),
                &push.name,
                component,
                &push.manifest,
                push.signature,
            );
            Ok(administration.shared(&installed.await?, push.wait).await)
        })
    }

    pub(super) fn tasks(&self) -> Result<Vec<TaskDocument>> {
        match self {
            Self::Api(client) => client.tasks(),
            Self::Store(config) => {
                let (store, defaults) = (store(config)?, open::defaults(config));
                let grants = block_on(open::grants_to_nobody(&config.grants))?;
                let signatures = open::signatures(&config.modules)?;
                let declared = declared_tasks(&store, &defaults, &grants, signatures.as_ref());
                let (tasks, left_out) = declared.map_err(Failure::failed)?;
                for NotLoaded { module, reason, .. } in left_out {
                    let reason = escaped(&reason);
                    eprintln!("the tasks of module {module} are left out: {reason}");
                }
                Ok(tasks.iter().map(TaskDocument::from).collect())
            }
        }
    }

    pub(super) fn modules(&self) -> Result<Vec<ModuleDocument>> {
        match self {
            Self::Api(client) => client.modules(),
            Self::Store(config) => Ok(petiole_api::modules(&store(config)?)?),
        }
    }

    pub(super) fn module(&self, name: &str) -> Result<ModuleDocument> {
        match self {
            Self::Api(client) => client.module(name),
            Self::Store(config) => Ok(petiole_api::module(&store(config)?, name)?),
        }
    }

    pub(super) fn activate(&self, name: &str, version: u32) -> Result<()> {
        match self {
            Self::Api(client) => {
                client.activate(name, version)?;
            }
            Self::Store(config) => {
                administration(config)?.activate(&Actor::local(), name, version)?;
            }
        }
        Ok(())
    }

    /// The version that is active then.
    pub(super) fn rollback(&self, name: &str) -> Result<u32> {
        Ok(match self {
            Self::Api(client) => client.rollback(name)?.version,
            Self::Store(config) => {
                let changed = administration(config)?.rollback(&Actor::local(), name)?;
                changed.version
            }
        })
    }

    pub(super) fn remove(&self, name: &str, version: Option<u32>, force: bool) -> Result<()> {
        match self {
            Self::Api(client) => {
                client.remove(name, version, force)?;
            }
            Self::Store(config) => {
                administration(config)?.remove(&Actor::local(), name, version, force)?;
            }
        }
        Ok(())
    }
}

/// The token for the API at `url`. A session's goes to that session's worker only, and none over a network on which
/// others can read it.
fn token(config: &Config, url: &Url) -> Result<Option<String>> {
    let session = session::path().display().to_string();
    let (token, origins) = (&config.http.token, &config.http.origins);
    if origins.of("http.token") == session && origins.of("api") != session {
        return Ok(None);
    }
    let is_private = url.scheme() == "https" || is_loopback(url) || config.http.plain;
    if token.is_some() && !is_private {
        return Err(Failure::usage(anyhow!(
            "the token (from {}) would go to {} unencrypted: name the API as https:// (the worker needs http.tls.cert and \
             http.tls.key), or reach it on a loopback address; or, where the network is trusted, set http.plain = true or \
             PETIOLE_HTTP_PLAIN=true",
            origins.of("http.token"),
            url.host_str().unwrap_or_default()
        )));
    }
    Ok(token.clone())
}

fn administration(config: &Config) -> Result<Administration> {
    Ok(Administration::new(
        store(config)?,
        open::audit(&config.http)?,
    ))
}

fn store(config: &Config) -> Result<Store> {
    Store::open(&config.modules.store).map_err(Failure::usage)
}
