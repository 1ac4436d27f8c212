//! The broker, and what is sent where.

use std::collections::HashSet;

use petiole_celery::{Destination, Routes};
use petiole_permits::ServiceUrl;
use petiole_permits::url::redact;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::key::settings;
use super::setting::{InOrder, Setting, parts};
use super::url::check_server;

settings! {
    /// The broker, and what is sent where.
    BrokerSettings with origins {
        /// Several are separated by `;`.
        url: ServiceUrl = "amqp://guest:guest@localhost:5672//".into(),
            Url "broker" ["PETIOLE_BROKER_URL", "CELERY_BROKER_URL"] "--broker";
        /// The queues that a worker consumes from.
        queues: Vec<String> = vec!["celery".to_owned()],
            Plain "queues" ["PETIOLE_QUEUES"] "--queues";
        /// The queue of a task that no route names.
        default_queue: String = "celery".to_owned(),
            Plain "default_queue" ["PETIOLE_DEFAULT_QUEUE"] "--default-queue";
        /// Keeps what can't be processed.
        quarantine_queue: String = "petiole.quarantine".to_owned(),
            Plain "quarantine_queue" ["PETIOLE_QUARANTINE_QUEUE"] "--quarantine-queue";
        /// By tasks' names, globs too; the first that matches counts.
        routes: InOrder<Route> = InOrder::default(),
            Table "routes" ["PETIOLE_ROUTES"] "--route";
    }
}

/// `"shop.*" = "python"`, or `"shop.*" = { exchange = "shop", routing_key = "orders" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a queue name, or { exchange = \"...\", routing_key = \"...\" }"
)]
pub(crate) enum Route {
    Queue(String),
    Exchange {
        exchange: String,
        routing_key: String,
    },
}

impl Setting for InOrder<Route> {
    /// Reads `GLOB=QUEUE,GLOB=QUEUE`; of two with one glob the first counts.
    fn from_text(text: &str) -> Result<Self, String> {
        let routes = parts(text).map(|rule| match rule.split_once('=') {
            Some((glob, queue)) if !glob.trim().is_empty() && !queue.trim().is_empty() => Ok((
                glob.trim().to_owned(),
                Route::Queue(queue.trim().to_owned()),
            )),
            _ => Err(format!(
                "route {:?} is not GLOB=QUEUE, for example 'shop.*=python'",
                redact(rule)
            )),
        });
        let mut routes: Vec<(String, Route)> = routes.collect::<Result<_, _>>()?;
        let mut globs = HashSet::new();
        routes.retain(|(glob, _)| globs.insert(glob.clone()));
        Ok(Self(routes))
    }
}

impl BrokerSettings {
    /// The routes table.
    pub(crate) fn routes(&self) -> Routes {
        let mut routes = Routes::new(self.default_queue.as_str());
        for (glob, route) in &self.routes.0 {
            let destination = match route.clone() {
                Route::Queue(queue) => Destination::queue(queue),
                Route::Exchange {
                    exchange,
                    routing_key,
                } => Destination {
                    exchange,
                    routing_key,
                },
            };
            routes.add(glob, destination);
        }
        routes
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (queues, kept) = (&self.queues, &self.quarantine_queue);
        if queues.is_empty() || queues.iter().any(|queue| queue.trim().is_empty()) {
            let reason = format!("queues {queues:?}: name at least one, and none that is empty");
            return Err(self.origins.wrong("queues", reason));
        }
        if queues.contains(kept) {
            return Err(self.origins.wrong(
                "quarantine_queue",
                format!(
                    "quarantine_queue {kept:?} is one of the queues that tasks are taken from: name another one"
                ),
            ));
        }
        Ok(())
    }

    /// Checks that the URL can be used.
    pub(crate) fn check_url(&self) -> Result<(), ConfigError> {
        let checked = petiole_broker::check(&self.url).map_err(|error| error.to_string());
        check_server(&self.origins, "broker", "PETIOLE_BROKER_URL or -b", checked)
    }

    /// Checks that the certificates and keys that the URL names can be read.
    pub(super) fn check_files(&self) -> Result<(), ConfigError> {
        petiole_broker::check_files(&self.url)
            .map_err(|error| self.origins.wrong("broker", error.to_string()))
    }
}
