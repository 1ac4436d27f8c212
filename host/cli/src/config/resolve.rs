//! The layers put together: every setting with a value, checked, and where it comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use petiole_celery::{Destination, Routes};
use petiole_permits::{Grant, Policy, ServiceUrl, Size};
use petiole_runtime::Budget;

use super::check::check;
use super::http::HttpSettings;
use super::keys;
use super::layer::{Layer, Layers, Setting};
use super::limits::{LimitSettings, MaxLimitSettings};
use super::units::{Count, LogFormat, LogLevel, Seconds, Share};
use super::values::Source;
use super::{ConfigError, machine, node};

/// The configuration that a command runs with.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub broker: Setting<ServiceUrl>,
    pub queues: Setting<Vec<String>>,
    pub default_queue: Setting<String>,
    pub quarantine_queue: Setting<String>,
    pub routes: Vec<Setting<(String, Destination)>>,
    /// Expanded.
    pub hostname: Setting<String>,
    pub concurrency: Setting<NonZeroU16>,
    pub prefetch_multiplier: Setting<NonZeroU16>,
    pub delivery_limit: Setting<NonZeroU16>,
    pub soft_shutdown_timeout: Setting<Seconds>,
    pub memory_budget: Setting<Size>,
    pub results: Setting<ServiceUrl>,
    pub result_expires: Setting<Seconds>,
    pub result_extended: Setting<bool>,
    pub store: Setting<ServiceUrl>,
    pub cache: Setting<String>,
    pub api: Setting<Option<ServiceUrl>>,
    pub loglevel: Setting<LogLevel>,
    pub log_format: Setting<LogFormat>,
    pub http_addr: Setting<Option<SocketAddr>>,
    pub http_token: Setting<Option<String>>,
    pub http: HttpSettings,
    pub limits: LimitSettings,
    pub max_limits: MaxLimitSettings,
    pub retry_delay: Setting<Seconds>,
    pub retry_max: Setting<u32>,
    pub compile_time: Setting<Seconds>,
    pub compile_memory: Setting<Size>,
    pub queue_concurrency: BTreeMap<String, Setting<NonZeroU16>>,
    pub keyvalue: Setting<Option<ServiceUrl>>,
    pub env: BTreeMap<String, Setting<Source>>,
    pub secrets: BTreeMap<String, Setting<Source>>,
    pub folders: BTreeMap<String, Setting<PathBuf>>,
    pub grants: Vec<Setting<(String, Grant)>>,
}

/// A slot is held until its result is stored and its messages are confirmed, so that more of them than
/// cores keep the cores busy. An idle one costs nothing but address space.
const SLOTS_PER_CORE: usize = 16;

/// What tasks may take of the memory that there is: the other half is for messages, plans and the worker itself.
const MEMORY_SHARE: Share = Share::Percent(50);
/// Where the system does not tell how much there is.
const UNTOLD_MEMORY: u64 = 4 << 30;

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
/// RabbitMQ's own for quorum queues, since 4.0.
const TWENTY: NonZeroU16 = NonZeroU16::MIN.saturating_add(19);

/// The most memory that one task may have, beside its tables.
pub(super) fn most_of_task(budget: Size, concurrency: NonZeroU16, tables: Count) -> Size {
    let size = |size| usize::try_from(size).unwrap_or(usize::MAX);
    let most = Budget::most_of_run(
        size(budget.bytes()),
        concurrency.get().into(),
        size(tables.0),
    );
    Size::new(u64::try_from(most).unwrap_or(u64::MAX)).in_whole_mib()
}

impl Resolved {
    pub(super) fn new(layers: &[Layer]) -> Result<Self, ConfigError> {
        let l = Layers(layers);
        let celery = || "celery".to_owned();
        let concurrency = l.or(&keys::CONCURRENCY, |w| w.concurrency, default_concurrency());
        let memory = machine::memory().unwrap_or(UNTOLD_MEMORY);
        let memory_budget = l.or(
            &keys::MEMORY_BUDGET,
            |w| w.memory_budget.map(|share| share.of(memory)),
            MEMORY_SHARE.of(memory),
        );
        let mut max_limits = MaxLimitSettings::resolve(&l);
        if !max_limits.memory.is_given() {
            let tables = max_limits.table_elements.value;
            let most = most_of_task(memory_budget.value, concurrency.value, tables);
            max_limits.memory.value = max_limits.memory.value.min(most);
        }
        let mut resolved = Self {
            broker: l.or(
                &keys::BROKER,
                |w| w.broker.clone().map(ServiceUrl::from),
                "amqp://guest:guest@localhost:5672//".into(),
            ),
            queues: l.or(&keys::QUEUES, |w| w.queues.clone(), vec![celery()]),
            default_queue: l.or(&keys::DEFAULT_QUEUE, |w| w.default_queue.clone(), celery()),
            quarantine_queue: l.or(
                &keys::QUARANTINE_QUEUE,
                |w| w.quarantine_queue.clone(),
                "petiole.quarantine".to_owned(),
            ),
            routes: l.all(&keys::ROUTES, |w| &w.routes),
            hostname: l.or(
                &keys::HOSTNAME,
                |w| w.hostname.clone(),
                "celery@%h".to_owned(),
            ),
            concurrency,
            prefetch_multiplier: l.or(&keys::PREFETCH_MULTIPLIER, |w| w.prefetch_multiplier, FOUR),
            delivery_limit: l.or(&keys::DELIVERY_LIMIT, |w| w.delivery_limit, TWENTY),
            soft_shutdown_timeout: l.or(
                &keys::SOFT_SHUTDOWN_TIMEOUT,
                |w| w.soft_shutdown_timeout,
                Seconds::whole(600),
            ),
            memory_budget,
            results: l.or(
                &keys::RESULTS,
                |w| w.results.clone().map(ServiceUrl::from),
                "disabled://".into(),
            ),
            result_expires: l.or(
                &keys::RESULT_EXPIRES,
                |w| w.result_expires,
                Seconds(petiole_storage::results::RESULT_EXPIRES),
            ),
            result_extended: l.or(&keys::RESULT_EXTENDED, |w| w.result_extended, false),
            store: l.or(
                &keys::STORE,
                |w| w.store.clone().map(ServiceUrl::from),
                crate::session::default_store().into(),
            ),
            cache: l.or(&keys::CACHE, |w| w.cache.clone(), default_cache()),
            api: l.maybe(&keys::API, |w| w.api.clone().map(ServiceUrl::from)),
            loglevel: l.or(&keys::LOGLEVEL, |w| w.loglevel, LogLevel::Info),
            log_format: l.or(&keys::LOG_FORMAT, |w| w.log_format, LogFormat::Plain),
            http_addr: l.maybe(&keys::HTTP_ADDR, |w| w.http.addr),
            http_token: l.maybe(&keys::HTTP_TOKEN, |w| w.http.token.clone()),
            http: HttpSettings::resolve(&l),
            limits: LimitSettings::resolve(&l, &max_limits),
            max_limits,
            retry_delay: l.or(&keys::RETRY_DELAY, |w| w.retry.delay, Seconds::whole(180)),
            retry_max: l.or(&keys::RETRY_MAX, |w| w.retry.max, 3),
            compile_time: l.or(&keys::COMPILE_TIME, |w| w.compile.time, Seconds::whole(120)),
            compile_memory: l.or(
                &keys::COMPILE_MEMORY,
                |w| w.compile.memory,
                Size::new(4 << 30),
            ),
            queue_concurrency: l.named(&keys::QUEUE_CONCURRENCY, |w| &w.queue_concurrency),
            keyvalue: l.maybe(&keys::KEYVALUE, |w| {
                w.keyvalue.clone().map(ServiceUrl::from)
            }),
            env: l.named(&keys::ENV, |w| &w.env),
            secrets: l.named(&keys::SECRETS, |w| &w.secrets),
            folders: l.named(&keys::FOLDERS, |w| &w.folders),
            grants: l.all(&keys::GRANTS, |w| &w.grants),
        };
        resolved.hostname.value = node::node_name(&resolved.hostname.value, &node::host());
        check(&resolved)?;
        Ok(resolved)
    }

    /// Which modules may be given what.
    pub(crate) fn grants(&self) -> Policy {
        let grants = self.grants.iter();
        Policy::new(grants.map(|grant| grant.value.clone()).collect())
    }

    /// Whether any module may be given key-value storage.
    pub(crate) fn allows_keyvalue(&self) -> bool {
        let mut grants = self.grants.iter();
        grants.any(|grant| grant.value.1.capabilities.keyvalue)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::env;
    use super::super::file::Written;
    use super::*;

    fn file(text: &str) -> Layer {
        Layer::file(
            Path::new("petiole.toml"),
            Written::parse(Path::new("petiole.toml"), text).unwrap(),
        )
    }

    /// As a worker looks at it.
    fn usable(layers: &[Layer]) -> Result<(), ConfigError> {
        let resolved = Resolved::new(layers)?;
        resolved.check_broker()?;
        resolved.check_results()
    }

    #[test]
    fn servers_of_celery_alone_concern_those_who_use_them() {
        let layer = |pairs: &'static [(&str, &str)]| {
            let var = |name: &str| pairs.iter().find(|(key, _)| *key == name);
            env::read(move |name| var(name).map(|(_, value)| value.into())).unwrap()
        };
        let celerys = || {
            layer(&[
                ("CELERY_BROKER_URL", "sqs://id:hush@"),
                ("CELERY_RESULT_BACKEND", "django-db"),
            ])
        };
        let resolved = Resolved::new(&[celerys()]).unwrap();
        let error = resolved.check_results().err().unwrap().to_string();
        for part in [
            "env CELERY_RESULT_BACKEND: ",
            "django-db",
            "redis://",
            "--results",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let error = resolved.check_broker().err().unwrap().to_string();
        for part in [
            "env CELERY_BROKER_URL: ",
            "sqs",
            "amqp",
            "PETIOLE_BROKER_URL",
        ] {
            assert!(error.contains(part) && !error.contains("hush"), "{error}");
        }
        let ours = layer(&[("PETIOLE_RESULT_BACKEND", "django-db")]);
        let error = Resolved::new(&[ours]).unwrap().check_results().err();
        assert!(!error.unwrap().to_string().contains("Where Celery needs it"));
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
                resolved.broker.value.expose(),
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
        assert!(!resolved.results.is_given());
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
            ("results = 'amqp://x'", "result backend \"amqp://x\""),
            ("store = 's3://b'", "not supported yet"),
            ("queues = []", "queues []"),
            ("quarantine_queue = 'celery'", "quarantine_queue \"celery\""),
            ("http = { token = 'short' }", "shorter than 16"),
            ("limits = { time = 0 }", "limits.time is 0"),
            ("limits = { cpu_time = 0 }", "limits.cpu_time is 0"),
            ("limits = { memory = 0 }", "limits.memory is 0"),
            (
                "limits = { memory = '2GiB' }",
                "limits.memory 2GiB is more than max_limits.memory 1GiB",
            ),
            ("max_limits = { memory = '5GiB' }", "at most 4GiB"),
            (
                "limits = { time = 20 }\nmax_limits = { time = 10 }",
                "limits.time 20 is more than max_limits.time 10",
            ),
            (
                "max_limits = { depth = 5000000000 }",
                "max_limits.depth 5000000000 is more than a worker can count",
            ),
            ("keyvalue = 'amqp://x'", "no storage for \"amqp\""),
            ("env = { '1X' = 'v' }", "env.\"1X\" is no variable's name"),
            (
                "env = { X = 'v' }\nsecrets = { X = 'v' }",
                "X is in [env] and in [secrets]",
            ),
            (
                "folders = { tmp = '/srv' }",
                "folders.\"tmp\": a folder's name",
            ),
            ("queue_concurrency = { '' = 1 }", "a queue has a name"),
            (
                "grants = { 'shop.*' = { env = ['X'] } }",
                "grants.\"shop.*\" allows X, and [env] does not say",
            ),
            (
                "env = { X = 'v' }\ngrants = { 'shop.*' = { secrets = ['X'] } }",
                "grants.\"shop.*\" allows X, and [secrets] does not say",
            ),
            (
                "grants = { 'shop.*' = { folders = { data = 'read-only' } } }",
                "grants.\"shop.*\" allows data, and [folders] does not say",
            ),
        ] {
            let error = usable(&[file(text)]).err().unwrap().to_string();
            assert!(
                error.starts_with("petiole.toml: ") && error.contains(reason),
                "{text}: {error}"
            );
        }
    }

    /// The parser is the worker's own, so that `config check` and the worker can't disagree.
    #[test]
    fn urls_are_read_as_the_worker_reads_them() {
        for text in [
            "broker = 'pyamqp://guest@localhost//'",
            "broker = 'amqp://a;librabbitmq://b//'",
            "results = 'redis://:p@/1'",
            "keyvalue = 'redis://:p@h/1'",
        ] {
            assert!(usable(&[file(text)]).is_ok(), "{text}");
        }
        for (text, reason) in [
            ("broker = 'pyamqps://u:hush@h'", "write amqps://"),
            ("broker = 'amqp://u:pa;hush@h'", "%3B"),
            (
                "broker = 'amqp://u:hush@h?frame_max=x'",
                "frame_max is a whole number",
            ),
            ("results = 'redis://:hush@h/orders'", "\"orders\""),
            ("results = 'db+sqlite:///x'", "no backend for \"db+sqlite\""),
            ("keyvalue = 'redis://:hush@h/orders'", "\"orders\""),
        ] {
            let error = usable(&[file(text)]).err().unwrap().to_string();
            assert!(
                error.contains(reason) && !error.contains("hush"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_default_gives_way_to_a_lower_maximum() {
        let layers = [file("[max_limits]\nmemory = '64MiB'\ntime = 600")];
        let resolved = Resolved::new(&layers).unwrap();
        let memory = &resolved.limits.memory;
        assert_eq!(
            (memory.value, memory.origin.as_str()),
            (Size::new(64 << 20), "petiole.toml")
        );
        assert!(!resolved.limits.time.is_given());
        let limits = resolved.limits.limits().unwrap();
        assert_eq!((limits.memory, limits.time.as_secs()), (64 << 20, 300));
        assert_eq!(resolved.max_limits.limits().unwrap().time.as_secs(), 600);
    }

    #[test]
    fn a_task_may_have_no_more_memory_than_there_is_for_all() {
        let resolved = |text: &str| Resolved::new(&[file(text)]);
        let small = resolved("concurrency = 4\nmemory_budget = '128MiB'").unwrap();
        let most = small.max_limits.memory.value;
        assert!(most.bytes() < 128 << 20, "{most}");
        assert_eq!(small.limits.memory.value, most);
        let large = resolved("concurrency = 4\nmemory_budget = '64GiB'").unwrap();
        assert_eq!(large.max_limits.memory.value, Size::new(1 << 30));
        let refused = |text| resolved(text).err().unwrap().to_string();
        let error = refused("memory_budget = '1GiB'\nmax_limits = { memory = '2GiB' }");
        assert!(
            error.contains("max_limits.memory 2GiB is more than")
                && error.contains("of memory_budget 1GiB"),
            "{error}"
        );
        assert!(refused("memory_budget = '1MiB'").contains("memory_budget 1MiB"));
    }

    #[test]
    fn tables_of_several_layers_add_up_by_name() {
        let below = file("[queue_concurrency]\none = 1\ntwo = 2\n[grants.'a.*']\ntemp = '1MiB'");
        let above = Written::parse(
            Path::new("other.toml"),
            "[queue_concurrency]\ntwo = 3\n[grants.'b.*']\nnetworks = ['10.0.0.0/8']",
        );
        let layers = [below, Layer::file(Path::new("other.toml"), above.unwrap())];
        let resolved = Resolved::new(&layers).unwrap();
        let caps = resolved.queue_concurrency.iter();
        let caps: Vec<_> = caps
            .map(|(queue, cap)| (queue.as_str(), cap.value.get(), cap.origin.as_str()))
            .collect();
        assert_eq!(caps, [("one", 1, "petiole.toml"), ("two", 3, "other.toml")]);
        let globs = resolved.grants.iter();
        let globs: Vec<_> = globs.map(|grant| grant.value.0.as_str()).collect();
        assert_eq!(globs, ["b.*", "a.*"]);
    }
}
