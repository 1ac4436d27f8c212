//! `petiole.toml`, which is also the shape of every other layer.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;

use petiole_celery::Destination;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::ConfigError;
use super::units::{Bytes, LogFormat, LogLevel, Seconds};

/// One layer as it is written: what it does not name is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    pub broker: Option<String>,
    pub queues: Option<Vec<String>>,
    pub default_queue: Option<String>,
    pub quarantine_queue: Option<String>,
    pub routes: WrittenRoutes,
    pub hostname: Option<String>,
    pub concurrency: Option<NonZeroU16>,
    pub prefetch_multiplier: Option<NonZeroU16>,
    pub soft_shutdown_timeout: Option<Seconds>,
    pub results: Option<String>,
    pub result_expires: Option<Seconds>,
    pub result_extended: Option<bool>,
    pub store: Option<String>,
    pub cache: Option<String>,
    pub api: Option<String>,
    pub loglevel: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    pub http: WrittenHttp,
    pub limits: WrittenLimits,
    pub retry: WrittenRetry,
    pub compile: WrittenCompile,
}

/// `[http]`: the worker's HTTP API.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenHttp {
    pub addr: Option<SocketAddr>,
    pub token: Option<String>,
}

/// `[limits]`: what a task may use where its manifest says nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenLimits {
    pub time: Option<Seconds>,
    pub soft_time: Option<Seconds>,
    pub memory: Option<Bytes>,
    pub max_memory: Option<Bytes>,
    pub result: Option<Bytes>,
    pub log: Option<Bytes>,
    pub children: Option<u32>,
}

/// `[retry]`: retries where neither task nor manifest says anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenRetry {
    pub delay: Option<Seconds>,
    pub max: Option<u32>,
}

/// `[compile]`: what compiling an upload may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenCompile {
    pub time: Option<Seconds>,
    pub memory: Option<Bytes>,
}

/// Routes in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WrittenRoutes(pub Vec<(String, Destination)>);

/// `"shop.*" = "python"`, or `"shop.*" = { exchange = "shop", routing_key = "orders" }`.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a queue name, or { exchange = \"...\", routing_key = \"...\" }"
)]
enum WrittenRoute {
    Queue(String),
    Exchange {
        exchange: String,
        routing_key: String,
    },
}

impl<'de> Deserialize<'de> for WrittenRoutes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = WrittenRoutes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of routes: \"shop.*\" = \"python\"")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenRoutes, A::Error> {
                let mut routes = Vec::new();
                while let Some((glob, route)) = map.next_entry::<String, WrittenRoute>()? {
                    routes.push((glob, route.into()));
                }
                Ok(WrittenRoutes(routes))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl From<WrittenRoute> for Destination {
    fn from(route: WrittenRoute) -> Self {
        match route {
            WrittenRoute::Queue(queue) => Self::queue(queue),
            WrittenRoute::Exchange {
                exchange,
                routing_key,
            } => Self {
                exchange,
                routing_key,
            },
        }
    }
}

impl Written {
    /// Reads a file's text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        for (text, key) in [
            ("broker = 'amqp://x'\nbrokr = 1\n", "brokr"),
            ("[http]\nadr = 'x'\n", "adr"),
        ] {
            let error = Written::parse(Path::new("petiole.toml"), text)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(key) && error.contains("line 2") && error.contains("petiole.toml"),
                "{error}"
            );
        }
    }

    #[test]
    fn routes_keep_their_order() {
        let written = Written::parse(
            Path::new("f"),
            "[routes]\n'z.*' = 'one'\n'a.*' = {exchange='e', routing_key='k'}\n",
        )
        .unwrap();
        let key = |exchange: &str, key: &str| Destination {
            exchange: exchange.into(),
            routing_key: key.into(),
        };
        assert_eq!(
            written.routes.0,
            [
                ("z.*".to_owned(), key("", "one")),
                ("a.*".to_owned(), key("e", "k"))
            ]
        );
    }
}
