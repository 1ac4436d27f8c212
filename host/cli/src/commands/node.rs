//! A worker with its HTTP API, from start to shutdown: what `petiole worker` and `petiole dev` share.

use std::sync::Arc;

use petiole_api::{Administration, Api, Gate, Serving};
use petiole_broker::Broker;
use petiole_storage::results::Results;
use petiole_worker::{Registry, Status, Worker, WorkerConfig, WorkerError};

use super::output::print_text;
use crate::banner::banner;
use crate::config::Config;
use crate::exit::{Exit, Failure, Result};
use crate::open;
use crate::session::Session;
use crate::signals::Signals;

/// Everything that a worker works with, connected.
pub(super) struct Node {
    config: Config,
    broker: Arc<dyn Broker>,
    results: Results,
    pub(super) administration: Administration,
    /// Its modules.
    pub(super) registry: Arc<Registry>,
}

impl Node {
    /// Connects to the broker and the result backend, and loads what is active in the store. A server that is not
    /// up yet is waited for, which the API says meanwhile.
    pub(super) async fn open(config: Config, api: Option<&Serving>) -> Result<Self> {
        let waits_for = |what| {
            if let Some(api) = api {
                api.waits_for(what);
            }
        };
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            tracing::warn!(target: "petiole", "RUST_BACKTRACE is set: each task takes about half as long again");
        }
        for warning in config.worker.warnings() {
            tracing::warn!(target: "petiole", "{warning}");
        }
        let audit = open::audit(&config.http)?;
        waits_for("the key-value storage");
        let grants = open::grants_when_up(&config.grants).await?;
        waits_for("its modules");
        let slots = u32::from(config.worker.concurrency.get());
        let registry = open::registry(&config, slots, grants).await?;
        // A module that can't be loaded is logged, and tried again while the worker runs.
        let _ = registry.refresh().await;
        waits_for("the result backend");
        let results = open::results_when_up(&config.results).await?;
        waits_for("the broker");
        let broker = open::broker_when_up(&config).await?;
        Ok(Self {
            config,
            broker,
            results,
            administration: Administration::new(registry.store().clone(), audit),
            registry,
        })
    }

    /// Says what there is, and works until a signal ends it. `settings` is for the other commands of this
    /// folder, beside the API; `hint` is for people.
    pub(super) async fn work(
        self,
        api: Option<Serving>,
        signals: Signals,
        settings: toml::Table,
        hint: &str,
    ) -> Result {
        let _session = api.as_ref().map(|api| session(api, settings)).transpose()?;
        let tasks = self.registry.tasks();
        let url = api.as_ref().map(|api| api.url.as_str());
        print_text(&format!(
            "{}{hint}\n",
            banner(&self.config, url, tasks.iter().map(|task| &**task))
        ))?;

        let worker = self.worker();
        if let Some(api) = &api {
            api.open(self.api(worker.status(), api.gate.clone()));
        }
        let signals = tokio::spawn(signals.pass_on(worker.shutdown()));
        let ended = worker.run().await;
        signals.abort();
        if let Some(api) = api {
            api.close().await.map_err(Failure::failed)?;
        }
        ended.map_err(|WorkerError::Broker(error)| open::broker_failure(error))?;
        Ok(Exit::Ok)
    }

    fn worker(&self) -> Worker {
        let worker = &self.config.worker;
        let config = WorkerConfig {
            queues: self.config.broker.queues.clone(),
            concurrency: worker.concurrency,
            queue_concurrency: worker.queue_concurrency.clone(),
            prefetch_multiplier: worker.prefetch_multiplier,
            delivery_limit: worker.delivery_limit,
            policy: open::policy(&self.config, &self.results),
            drain: worker.soft_shutdown_timeout.0,
        };
        Worker::new(
            config,
            Arc::clone(&self.broker),
            self.results.clone(),
            Arc::clone(&self.registry),
        )
    }

    fn api(&self, status: Arc<Status>, gate: Gate) -> Api {
        Api {
            registry: Arc::clone(&self.registry),
            broker: Arc::clone(&self.broker),
            results: self.results.clone(),
            status,
            routes: Arc::new(self.config.broker.routes()),
            origin: open::origin(&self.config).into(),
            administration: self.administration.clone(),
            gate,
        }
    }
}

/// Starts the session, with a token that was made up; one that was configured is known to those who need it.
fn session(api: &Serving, mut settings: toml::Table) -> anyhow::Result<Session> {
    settings.insert("api".to_owned(), api.url.as_str().into());
    if let Some(token) = &api.generated {
        let http = toml::Table::from_iter([("token".to_owned(), token.as_str().into())]);
        settings.insert("http".to_owned(), http.into());
    }
    Session::start(settings)
}
