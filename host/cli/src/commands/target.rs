//! What modules and tasks are asked of: a worker's HTTP API, or a store itself.

use std::sync::Arc;

use anyhow::anyhow;
use jiff::Timestamp;
use petiole_modules::{Catalog, CatalogError, Manifest, Module, ModuleName, Store};
use petiole_worker::Registry;

use crate::api::{Client, InstalledDocument, TaskDocument};
use crate::cli::TargetArgs;
use crate::config::{Resolved, Sources, Written};
use crate::exit::{Failure, Result};
use crate::{open, session};

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
            Some(api) if !store_flag => Ok(Self::Api(Client::new(api, token(&config)))),
            _ if config.store.is_given() => Ok(Self::Store(Box::new(config))),
            _ => Err(Failure::usage(anyhow!(
                "no worker is known here: start `petiole dev`, or `petiole worker --http 127.0.0.1:8000`, in this folder; or \
                 name a worker with --to URL, or a store with --store file://DIR"
            ))),
        }
    }

    pub(super) fn push(
        &self,
        name: &str,
        component: Vec<u8>,
        manifest: Option<&str>,
    ) -> Result<InstalledDocument> {
        let config = match self {
            Self::Api(client) => return client.push(name, &component, manifest),
            Self::Store(config) => config,
        };
        let manifest = match manifest {
            Some(text) => Manifest::from_toml(text).map_err(Failure::usage)?,
            None => Manifest::default(),
        };
        in_registry(config, async |registry| {
            let installed = registry
                .install(name, component, manifest, Timestamp::now())
                .await;
            let installed = installed.map_err(|error| match error.is_refusal() {
                true => Failure::usage(error),
                false => Failure::failed(error),
            })?;
            Ok(InstalledDocument::from(&installed))
        })
    }

    pub(super) fn tasks(&self) -> Result<Vec<TaskDocument>> {
        match self {
            Self::Api(client) => client.tasks(),
            Self::Store(config) => in_registry(config, async |registry| {
                Ok(registry
                    .tasks()
                    .iter()
                    .map(|task| TaskDocument::from(&**task))
                    .collect())
            }),
        }
    }

    pub(super) fn modules(&self) -> Result<Vec<Module>> {
        match self {
            Self::Api(client) => client.modules(),
            Self::Store(config) => catalog(config)?.list().map_err(catalog_failure),
        }
    }

    pub(super) fn module(&self, name: &str) -> Result<Module> {
        match self {
            Self::Api(client) => client.module(name),
            Self::Store(config) => catalog(config)?
                .show(&module_name(name)?)
                .map_err(catalog_failure),
        }
    }

    pub(super) fn activate(&self, name: &str, version: u32) -> Result<()> {
        match self {
            Self::Api(client) => client.activate(name, version).map(drop),
            Self::Store(config) => catalog(config)?
                .activate(&module_name(name)?, version)
                .map_err(catalog_failure),
        }
    }

    pub(super) fn rollback(&self, name: &str) -> Result<u32> {
        match self {
            Self::Api(client) => client.rollback(name).map(|rolled| rolled.version),
            Self::Store(config) => catalog(config)?
                .rollback(&module_name(name)?)
                .map_err(catalog_failure),
        }
    }

    pub(super) fn remove(&self, name: &str, version: Option<u32>, force: bool) -> Result<()> {
        match self {
            Self::Api(client) => client.remove(name, version, force).map(drop),
            Self::Store(config) => catalog(config)?
                .remove(&module_name(name)?, version, force, Timestamp::now())
                .map_err(catalog_failure),
        }
    }
}

/// A session's token goes to that session's worker only.
fn token(config: &Resolved) -> Option<String> {
    let session = session::path().display().to_string();
    let (token, api) = (&config.http_token, &config.api);
    if token.origin == session && api.origin != session {
        None
    } else {
        token.value.clone()
    }
}

/// Works on a registry of this process; nothing runs in it.
fn in_registry<T>(
    config: &Resolved,
    work: impl AsyncFnOnce(Arc<Registry>) -> Result<T>,
) -> Result<T> {
    super::block_on(async { work(open::registry(config, 1).await?).await })
}

fn catalog(config: &Resolved) -> Result<Catalog> {
    Ok(Store::open(&config.store.value)
        .map_err(Failure::usage)?
        .catalog())
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
