//! `petiole.toml`, which is also the shape of every other layer.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf, absolute};

use petiole_celery::Destination;
use petiole_permits::{Grant, Size};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::ConfigError;
use super::http::{WrittenHttp, WrittenSignatures};
use super::limits::{WrittenLimits, WrittenMaxLimits};
use super::units::{LogFormat, LogLevel, Seconds, Share};
use super::values::{Place, Source};
use super::wants::wrong;

/// One layer as it is written: what it does not name is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    pub broker: Option<String>,
    pub queues: Option<Vec<String>>,
    pub default_queue: Option<String>,
    pub quarantine_queue: Option<String>,
    #[serde(deserialize_with = "routes")]
    pub routes: InOrder<Destination>,
    pub hostname: Option<String>,
    pub concurrency: Option<NonZeroU16>,
    pub prefetch_multiplier: Option<NonZeroU16>,
    pub delivery_limit: Option<NonZeroU16>,
    pub soft_shutdown_timeout: Option<Seconds>,
    pub memory_budget: Option<Share>,
    pub results: Option<String>,
    pub result_expires: Option<Seconds>,
    pub result_extended: Option<bool>,
    pub store: Option<String>,
    pub cache: Option<String>,
    pub api: Option<String>,
    pub loglevel: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    pub http: WrittenHttp,
    pub signatures: WrittenSignatures,
    pub audit: Option<PathBuf>,
    pub api_ca: Option<PathBuf>,
    pub api_cert: Option<PathBuf>,
    pub api_key: Option<PathBuf>,
    pub limits: WrittenLimits,
    pub max_limits: WrittenMaxLimits,
    pub retry: WrittenRetry,
    pub compile: WrittenCompile,
    pub queue_concurrency: InOrder<NonZeroU16>,
    pub keyvalue: Option<String>,
    pub env: InOrder<Source>,
    pub secrets: InOrder<Source>,
    pub folders: InOrder<PathBuf>,
    pub grants: InOrder<Grant>,
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
    pub memory: Option<Size>,
}

/// A table in the order in which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InOrder<T>(pub Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

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

fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InOrder<Destination>, D::Error> {
    let InOrder(routes) = InOrder::<WrittenRoute>::deserialize(deserializer)?;
    let routes = routes.into_iter().map(|(glob, to)| (glob, to.into()));
    Ok(InOrder(routes.collect()))
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
    /// Reads a file's text. Paths of folders and values start at the file's folder.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut written: Self = toml::from_str(text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: wrong(text, &error),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        written.http_paths_from(base);
        let places = written.env.0.iter_mut().chain(&mut written.secrets.0);
        let files = places.filter_map(|(_, source)| match source {
            Source::At(Place::File(file)) => Some(file),
            Source::At(Place::Env(_) | Place::Credential(_)) | Source::Text(_) => None,
        });
        for file in files.chain(written.folders.0.iter_mut().map(|(_, folder)| folder)) {
            // Only fails for an empty path, or where there is no working directory.
            *file = absolute(base.join(&*file)).unwrap_or_else(|_| base.join(&*file));
        }
        Ok(written)
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
    fn an_error_quotes_no_value() {
        for (text, line) in [
            ("[secrets]\nKEY = 'hush\n", "line 2"),
            (
                "[secrets]\nKEY = { file = 'hush', more = 'hush' }\n",
                "line 2: secrets.KEY: wants a text, {",
            ),
            (
                "[secrets]\nA = 'x'\nKEY = ['hush']\n",
                "line 3: secrets.KEY: wants a text, {",
            ),
            (
                "[secrets]\nKEY = \"\"\"hush\nhush = hush\\q\n\"\"\"\n",
                "line 3",
            ),
            ("broker = 'amqp://u:hush@h' x\n", "line 1"),
            (
                "secrets = 'hush'\n",
                "line 1: secrets: wants a table, and is a text",
            ),
            (
                "[http]\ntoken = ['hush']\n",
                "line 2: http.token: wants a text, and is a list",
            ),
        ] {
            let error = Written::parse(Path::new("f"), text)
                .unwrap_err()
                .to_string();
            let value = error.replace("hush: ", "");
            assert!(
                error.contains(line) && !value.contains("hush"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn paths_start_at_the_file() {
        let text =
            "[folders]\ndata = 'data'\nabsolute = '/srv/x'\n[secrets]\nS = { file = '../s' }";
        let written = Written::parse(Path::new("/etc/petiole/petiole.toml"), text).unwrap();
        let folders: Vec<_> = written.folders.0.iter().map(|(_, path)| path).collect();
        assert_eq!(
            folders,
            [Path::new("/etc/petiole/data"), Path::new("/srv/x")]
        );
        let secret = Source::At(Place::File("/etc/petiole/../s".into()));
        assert_eq!(written.secrets.0, [("S".to_owned(), secret)]);
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
