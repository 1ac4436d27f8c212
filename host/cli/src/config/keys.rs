//! The settings by name: their key in the file, their environment variables and their flag.

/// A setting's spellings.
#[derive(Debug)]
pub(super) struct Key {
    /// In the file; a dot for a table.
    pub name: &'static str,
    /// The first that is set counts.
    pub env: &'static [&'static str],
    /// On the command line.
    pub flag: Option<&'static str>,
}

const fn key(name: &'static str, env: &'static [&'static str], flag: &'static str) -> Key {
    Key {
        name,
        env,
        flag: Some(flag),
    }
}

pub(super) const fn no_flag(name: &'static str, env: &'static [&'static str]) -> Key {
    Key {
        name,
        env,
        flag: None,
    }
}

/// A table, which only the file has.
const fn table(name: &'static str) -> Key {
    no_flag(name, &[])
}

pub(super) const BROKER: Key = key(
    "broker",
    &["PETIOLE_BROKER_URL", "CELERY_BROKER_URL"],
    "--broker",
);
pub(super) const QUEUES: Key = key("queues", &["PETIOLE_QUEUES"], "--queues");
pub(super) const DEFAULT_QUEUE: Key = key(
    "default_queue",
    &["PETIOLE_DEFAULT_QUEUE"],
    "--default-queue",
);
pub(super) const QUARANTINE_QUEUE: Key = key(
    "quarantine_queue",
    &["PETIOLE_QUARANTINE_QUEUE"],
    "--quarantine-queue",
);
pub(super) const ROUTES: Key = key("routes", &["PETIOLE_ROUTES"], "--route");
pub(super) const HOSTNAME: Key = key("hostname", &["PETIOLE_HOSTNAME"], "--hostname");
pub(super) const CONCURRENCY: Key = key("concurrency", &["PETIOLE_CONCURRENCY"], "--concurrency");
pub(super) const PREFETCH_MULTIPLIER: Key = key(
    "prefetch_multiplier",
    &["PETIOLE_PREFETCH_MULTIPLIER"],
    "--prefetch-multiplier",
);
pub(super) const DELIVERY_LIMIT: Key = no_flag("delivery_limit", &["PETIOLE_DELIVERY_LIMIT"]);
pub(super) const SOFT_SHUTDOWN_TIMEOUT: Key = key(
    "soft_shutdown_timeout",
    &["PETIOLE_SOFT_SHUTDOWN_TIMEOUT"],
    "--soft-shutdown-timeout",
);
pub(super) const MEMORY_BUDGET: Key = no_flag("memory_budget", &["PETIOLE_MEMORY_BUDGET"]);
pub(super) const RESULTS: Key = key(
    "results",
    &["PETIOLE_RESULT_BACKEND", "CELERY_RESULT_BACKEND"],
    "--results",
);
pub(super) const RESULT_EXPIRES: Key = key(
    "result_expires",
    &["PETIOLE_RESULT_EXPIRES"],
    "--result-expires",
);
pub(super) const RESULT_EXTENDED: Key = key(
    "result_extended",
    &["PETIOLE_RESULT_EXTENDED"],
    "--result-extended",
);
pub(super) const STORE: Key = key("store", &["PETIOLE_STORE"], "--store");
pub(super) const CACHE: Key = no_flag("cache", &["PETIOLE_CACHE"]);
pub(super) const API: Key = key("api", &["PETIOLE_API"], "--to");
pub(super) const LOGLEVEL: Key = key("loglevel", &["PETIOLE_LOGLEVEL"], "--loglevel");
pub(super) const LOG_FORMAT: Key = key("log_format", &["PETIOLE_LOG_FORMAT"], "--log-format");
pub(super) const HTTP_ADDR: Key = key("http.addr", &["PETIOLE_HTTP"], "--http");
/// Has no flag: other users of the machine can read a command line.
pub(super) const HTTP_TOKEN: Key = no_flag("http.token", &["PETIOLE_TOKEN"]);
pub(super) const RETRY_DELAY: Key = no_flag("retry.delay", &["PETIOLE_RETRY_DELAY"]);
pub(super) const RETRY_MAX: Key = no_flag("retry.max", &["PETIOLE_MAX_RETRIES"]);
pub(super) const COMPILE_TIME: Key = no_flag("compile.time", &["PETIOLE_COMPILE_TIME"]);
pub(super) const COMPILE_MEMORY: Key = no_flag("compile.memory", &["PETIOLE_COMPILE_MEMORY"]);
pub(super) const KEYVALUE: Key = no_flag("keyvalue", &["PETIOLE_KEYVALUE"]);
pub(super) const QUEUE_CONCURRENCY: Key = table("queue_concurrency");
pub(super) const ENV: Key = table("env");
pub(super) const SECRETS: Key = table("secrets");
pub(super) const FOLDERS: Key = table("folders");
pub(super) const GRANTS: Key = table("grants");
