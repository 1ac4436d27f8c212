//! The layers put together: every setting with a value, checked, and where it comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use petiole_celery::{Destination, Routes};

use super::file::Written;
use super::keys::{self, Key};
use super::units::{Bytes, LogFormat, LogLevel, Seconds};
use super::{ConfigError, node, url};

/// A layer: what is written, and where.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) written: Written,
}

/// Where a layer is written.
#[derive(Debug)]
pub(super) enum Origin {
    File(PathBuf),
    /// By setting, the variable that named it.
    Env(BTreeMap<&'static str, &'static str>),
    Flags,
}

/// A setting's value, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    pub value: T,
    /// A file, an environment variable, a flag, or `default`.
    pub origin: String,
}

/// The configuration that a command runs with.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub broker: Setting<String>,
    pub queues: Setting<Vec<String>>,
    pub default_queue: Setting<String>,
    pub quarantine_queue: Setting<String>,
    pub routes: Vec<Setting<(String, Destination)>>,
    /// Expanded.
    pub hostname: Setting<String>,
    pub concurrency: Setting<NonZeroU16>,
    pub prefetch_multiplier: Setting<NonZeroU16>,
    pub soft_shutdown_timeout: Setting<Seconds>,
    pub results: Setting<String>,
    pub result_expires: Setting<Seconds>,
    pub result_extended: Setting<bool>,
    pub store: Setting<String>,
    pub cache: Setting<String>,
    pub api: Setting<Option<String>>,
    pub loglevel: Setting<LogLevel>,
    pub log_format: Setting<LogFormat>,
    pub http_addr: Setting<Option<SocketAddr>>,
    pub http_token: Setting<Option<String>>,
    pub limit_time: Setting<Seconds>,
    pub limit_soft_time: Setting<Option<Seconds>>,
    pub limit_memory: Setting<Bytes>,
    pub limit_max_memory: Setting<Bytes>,
    pub limit_result: Setting<Bytes>,
    pub limit_log: Setting<Bytes>,
    pub limit_children: Setting<u32>,
    pub retry_delay: Setting<Seconds>,
    pub retry_max: Setting<u32>,
    pub compile_time: Setting<Seconds>,
    pub compile_memory: Setting<Bytes>,
}

impl Layer {
    pub(super) fn file(path: &Path, written: Written) -> Self {
        Self {
            origin: Origin::File(path.to_owned()),
            written,
        }
    }

    pub(super) fn flags(written: Written) -> Self {
        Self {
            origin: Origin::Flags,
            written,
        }
    }

    fn origin(&self, key: &Key) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Env(used) => format!("env {}", used.get(key.name).unwrap_or(&key.name)),
            Origin::Flags => format!("flag {}", key.flag.unwrap_or(key.name)),
        }
    }
}

/// The layers, the lowest first.
struct Layers<'a>(&'a [Layer]);

impl Layers<'_> {
    fn given<T>(&self, key: &Key, get: impl Fn(&Written) -> Option<T>) -> Option<Setting<T>> {
        self.0.iter().rev().find_map(|layer| {
            get(&layer.written).map(|value| Setting {
                value,
                origin: layer.origin(key),
            })
        })
    }

    fn or<T>(&self, key: &Key, get: impl Fn(&Written) -> Option<T>, default: T) -> Setting<T> {
        self.given(key, get).unwrap_or_else(|| Setting {
            value: default,
            origin: DEFAULT.to_owned(),
        })
    }

    fn maybe<T>(&self, key: &Key, get: impl Fn(&Written) -> Option<T>) -> Setting<Option<T>> {
        match self.given(key, get) {
            Some(Setting { value, origin }) => Setting {
                value: Some(value),
                origin,
            },
            None => Setting {
                value: None,
                origin: DEFAULT.to_owned(),
            },
        }
    }

    /// Routes add up: the flags' are tried first, then the environment's, then the file's.
    fn routes(&self) -> Vec<Setting<(String, Destination)>> {
        let of = |layer: &Layer| {
            let origin = layer.origin(&keys::ROUTES);
            let routes = layer.written.routes.0.clone();
            routes.into_iter().map(move |value| Setting {
                value,
                origin: origin.clone(),
            })
        };
        self.0.iter().rev().flat_map(of).collect()
    }
}

const DEFAULT: &str = "default";

/// A slot is held until its result is stored and its messages are confirmed, so that more of them than
/// cores keep the cores busy. An idle one costs nothing but address space.
const SLOTS_PER_CORE: usize = 16;

fn default_concurrency() -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores.saturating_mul(SLOTS_PER_CORE).min(1024))
        .ok()
        .and_then(NonZeroU16::new)
        .unwrap_or(NonZeroU16::MIN)
}

/// The private folder for compiled code.
fn default_cache() -> String {
    let home = || {
        std::env::var_os("HOME")
            .filter(|dir| !dir.is_empty())
            .map(|dir| Path::new(&dir).join(".cache"))
    };
    let xdg = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let dir = xdg.or_else(home).map_or_else(
        || crate::session::dir().join("cache"),
        |dir| dir.join("petiole"),
    );
    dir.display().to_string()
}

const FOUR: NonZeroU16 = NonZeroU16::MIN.saturating_add(3);

impl Resolved {
    pub(super) fn new(layers: &[Layer]) -> Result<Self, ConfigError> {
        let l = Layers(layers);
        let celery = || "celery".to_owned();
        let mut resolved = Self {
            broker: l.or(
                &keys::BROKER,
                |w| w.broker.clone(),
                "amqp://guest:guest@localhost:5672//".to_owned(),
            ),
            queues: l.or(&keys::QUEUES, |w| w.queues.clone(), vec![celery()]),
            default_queue: l.or(&keys::DEFAULT_QUEUE, |w| w.default_queue.clone(), celery()),
            quarantine_queue: l.or(
                &keys::QUARANTINE_QUEUE,
                |w| w.quarantine_queue.clone(),
                "petiole.quarantine".to_owned(),
            ),
            routes: l.routes(),
            hostname: l.or(
                &keys::HOSTNAME,
                |w| w.hostname.clone(),
                "celery@%h".to_owned(),
            ),
            concurrency: l.or(&keys::CONCURRENCY, |w| w.concurrency, default_concurrency()),
            prefetch_multiplier: l.or(&keys::PREFETCH_MULTIPLIER, |w| w.prefetch_multiplier, FOUR),
            soft_shutdown_timeout: l.or(
                &keys::SOFT_SHUTDOWN_TIMEOUT,
                |w| w.soft_shutdown_timeout,
                Seconds::whole(600),
            ),
            results: l.or(
                &keys::RESULTS,
                |w| w.results.clone(),
                "disabled://".to_owned(),
            ),
            result_expires: l.or(
                &keys::RESULT_EXPIRES,
                |w| w.result_expires,
                Seconds(petiole_results::RESULT_EXPIRES),
            ),
            result_extended: l.or(&keys::RESULT_EXTENDED, |w| w.result_extended, false),
            store: l.or(
                &keys::STORE,
                |w| w.store.clone(),
                crate::session::default_store(),
            ),
            cache: l.or(&keys::CACHE, |w| w.cache.clone(), default_cache()),
            api: l.maybe(&keys::API, |w| w.api.clone()),
            loglevel: l.or(&keys::LOGLEVEL, |w| w.loglevel, LogLevel::Info),
            log_format: l.or(&keys::LOG_FORMAT, |w| w.log_format, LogFormat::Plain),
            http_addr: l.maybe(&keys::HTTP_ADDR, |w| w.http.addr),
            http_token: l.maybe(&keys::HTTP_TOKEN, |w| w.http.token.clone()),
            limit_time: l.or(&keys::LIMIT_TIME, |w| w.limits.time, Seconds::whole(300)),
            limit_soft_time: l.maybe(&keys::LIMIT_SOFT_TIME, |w| w.limits.soft_time),
            limit_memory: l.or(&keys::LIMIT_MEMORY, |w| w.limits.memory, Bytes(256 << 20)),
            limit_max_memory: l.or(
                &keys::LIMIT_MAX_MEMORY,
                |w| w.limits.max_memory,
                Bytes(1 << 30),
            ),
            limit_result: l.or(&keys::LIMIT_RESULT, |w| w.limits.result, Bytes(8 << 20)),
            limit_log: l.or(&keys::LIMIT_LOG, |w| w.limits.log, Bytes(256 << 10)),
            limit_children: l.or(&keys::LIMIT_CHILDREN, |w| w.limits.children, 1000),
            retry_delay: l.or(&keys::RETRY_DELAY, |w| w.retry.delay, Seconds::whole(180)),
            retry_max: l.or(&keys::RETRY_MAX, |w| w.retry.max, 3),
            compile_time: l.or(&keys::COMPILE_TIME, |w| w.compile.time, Seconds::whole(120)),
            compile_memory: l.or(&keys::COMPILE_MEMORY, |w| w.compile.memory, Bytes(4 << 30)),
        };
        resolved.hostname.value = node::node_name(&resolved.hostname.value, &node::host());
        resolved.check()?;
        Ok(resolved)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.broker.check(|urls| url::check_broker(urls))?;
        self.results
            .check(|url| url::results_kind(url).map(|_| ()))?;
        self.store.check(|url| url::check_store(url))?;
        self.api
            .check(|api| api.as_deref().map_or(Ok(()), url::check_api))?;
        self.queues.check(|queues| {
            match queues.iter().any(|queue| queue.trim().is_empty()) || queues.is_empty() {
                true => Err(format!(
                    "queues {queues:?}: name at least one, and none that is empty"
                )),
                false => Ok(()),
            }
        })?;
        self.http_token.check(|token| {
            match token
                .as_deref()
                .is_some_and(|token| token.len() < MIN_TOKEN)
            {
                true => Err(format!(
                    "http.token is shorter than {MIN_TOKEN} characters: others could guess it"
                )),
                false => Ok(()),
            }
        })?;
        self.limit_time.check(|time| {
            if time.0.is_zero() {
                Err("a time limit of 0: no task could run".to_owned())
            } else {
                Ok(())
            }
        })?;
        self.limit_memory
            .check(|memory| match *memory > self.limit_max_memory.value {
                true => Err(format!(
                    "limits.memory {memory} is more than limits.max_memory {}",
                    self.limit_max_memory.value
                )),
                false => Ok(()),
            })
    }

    /// The routes table.
    pub(crate) fn routes(&self) -> Routes {
        let mut routes = Routes::new(self.default_queue.value.as_str());
        for route in &self.routes {
            let (glob, destination) = &route.value;
            routes.add(glob, destination.clone());
        }
        routes
    }
}

/// The shortest token that the API takes: 16 characters.
const MIN_TOKEN: usize = 16;

impl<T> Setting<T> {
    /// Whether it was set anywhere.
    pub(crate) fn is_given(&self) -> bool {
        self.origin != DEFAULT
    }

    fn check(&self, valid: impl Fn(&T) -> Result<(), String>) -> Result<(), ConfigError> {
        valid(&self.value).map_err(|reason| ConfigError::Value {
            origin: self.origin.clone(),
            reason,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layer {
        Layer::file(
            Path::new("petiole.toml"),
            Written::parse(Path::new("petiole.toml"), text).unwrap(),
        )
    }

    #[test]
    fn a_higher_layer_wins_and_is_named() {
        let flags = Written {
            broker: Some("amqp://flag".to_owned()),
            ..Written::default()
        };
        let layers = [
            file("broker = 'amqp://file'\nconcurrency = 7\n[routes]\n'a.*' = 'a'"),
            Layer::flags(flags),
        ];
        let resolved = Resolved::new(&layers).unwrap();
        assert_eq!(
            (
                resolved.broker.value.as_str(),
                resolved.broker.origin.as_str()
            ),
            ("amqp://flag", "flag --broker")
        );
        assert_eq!(
            (
                resolved.concurrency.value.get(),
                resolved.concurrency.origin.as_str()
            ),
            (7, "petiole.toml")
        );
        assert_eq!(resolved.results.origin, DEFAULT);
        assert_eq!(
            resolved.routes().destination("a.x"),
            Destination::queue("a")
        );
        assert_eq!(
            resolved.routes().destination("b.x"),
            Destination::queue("celery")
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_layer() {
        for (text, reason) in [
            ("broker = 'localhost'", "broker url \"localhost\""),
            ("results = 'amqp://x'", "result backend url"),
            ("store = 's3://b'", "not supported yet"),
            ("queues = []", "queues []"),
            ("http = { token = 'short' }", "shorter than 16"),
            ("limits = { time = 0 }", "time limit of 0"),
            (
                "limits = { memory = '2GiB' }",
                "more than limits.max_memory 1GiB",
            ),
        ] {
            let error = Resolved::new(&[file(text)]).err().unwrap().to_string();
            assert!(
                error.starts_with("petiole.toml: ") && error.contains(reason),
                "{text}: {error}"
            );
        }
    }
}
