//! Opens what a resolved configuration names: broker, results, runtime, registry.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use petiole_api::Audit;
use petiole_broker::{Broker, BrokerError, PublishError};
use petiole_celery::plan::{Plan, Policy};
use petiole_modules::SignaturePolicy;
use petiole_permits::{KeyValue, ServiceUrl};
use petiole_runtime::{Budget, Cache, CompileLimits, Compiler, PoolSize, Runtime};
use petiole_storage::keyvalue::ConnectError;
use petiole_storage::results::{ResultError, Results};
use petiole_worker::{Grants, Registry, TaskDefaults, Values};

use crate::config::{Outside, Resolved, is_key};
use crate::exit::{Failure, Result};
use crate::wait::until_up;

/// Connects to the broker, for one who consumes nothing.
pub(crate) async fn broker(config: &Resolved) -> Result<Arc<dyn Broker>> {
    config.check_broker().map_err(Failure::usage)?;
    petiole_broker::connect(&config.broker.value, petiole_broker::MESSAGES)
        .await
        .map_err(|error| connect_failure(config, error))
}

/// Connects a worker to the broker, once it is up.
pub(crate) async fn broker_when_up(config: &Resolved) -> Result<Arc<dyn Broker>> {
    let memory = Budget::of_messages(memory_budget(config));
    let connect = || petiole_broker::connect(&config.broker.value, memory);
    until_up(connect, |error| {
        matches!(error, BrokerError::Unreachable { .. }) && !error.is_final()
    })
    .await
    .map_err(|error| connect_failure(config, error))
}

/// The exit code of a broker's error.
pub(crate) fn broker_failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Url { .. } | BrokerError::Queue { .. } => Failure::usage(error),
        error => Failure::unreachable(error),
    }
}

/// The exit code of a message that was not sent.
pub(crate) fn publish_failure(error: PublishError) -> Failure {
    match error {
        PublishError::Broker(error) => broker_failure(error),
        PublishError::Unroutable { .. }
        | PublishError::Invalid { .. }
        | PublishError::TooLarge { .. }
        | PublishError::TooLate { .. }
        | PublishError::Undelayable { .. } => Failure::usage(error),
        PublishError::Nacked { .. }
        | PublishError::Refused { .. }
        | PublishError::NotConfirmed { .. }
        | PublishError::OutOfReach { .. } => Failure::unreachable(error),
    }
}

fn connect_failure(config: &Resolved, error: BrokerError) -> Failure {
    match error {
        BrokerError::Url { .. } => Failure::usage(error),
        error => Failure::unreachable(anyhow::Error::from(error).context(format!(
            "can't reach the broker (from {}; set it with -b URL, PETIOLE_BROKER_URL or petiole.toml, or try `petiole dev`)",
            config.broker.origin
        ))),
    }
}

/// Opens the result backend.
pub(crate) async fn results(config: &Resolved) -> Result<Results> {
    config.check_results().map_err(Failure::usage)?;
    Results::connect(&config.results.value, config.result_expires.value.0)
        .await
        .map_err(result_failure)
}

/// Opens the result backend of a worker, once it is up.
pub(crate) async fn results_when_up(config: &Resolved) -> Result<Results> {
    let connect = async || {
        let results =
            Results::connect(&config.results.value, config.result_expires.value.0).await?;
        if let Results::Backend(backend) = &results {
            backend.check_rights().await?;
        }
        Ok(results)
    };
    until_up(connect, |error: &ResultError| {
        matches!(error, ResultError::Unreachable { .. })
    })
    .await
    .map_err(result_failure)
}

/// The exit code of a result backend's error.
pub(crate) fn result_failure(error: ResultError) -> Failure {
    if error.is_configuration() {
        return Failure::usage(error);
    }
    Failure::unreachable(anyhow::Error::from(error).context("can't use the result backend"))
}

/// Makes a sandbox pool for so many tasks at once.
pub(crate) fn runtime(config: &Resolved, slots: u32) -> Result<Runtime> {
    let size = PoolSize {
        slots,
        max_memory: config.max_limits.limits().map_err(Failure::usage)?.memory,
        budget: memory_budget(config),
        readers: std::thread::available_parallelism().map_or(1, usize::from),
    };
    Runtime::new(size)
        .context("can't make the sandbox pool")
        .map_err(Failure::failed)
}

/// Bytes of memory for all tasks together.
fn memory_budget(config: &Resolved) -> usize {
    usize::try_from(config.memory_budget.value.bytes()).unwrap_or(usize::MAX)
}

/// Opens the cache of compiled code.
pub(crate) fn cache(config: &Resolved) -> Result<Cache> {
    let dir = Path::new(&config.cache.value);
    Cache::open(dir)
        .with_context(|| format!("can't use the cache folder {}", dir.display()))
        .map_err(Failure::failed)
}

/// Compiles in a child process with limits.
pub(crate) fn compiler(config: &Resolved) -> Result<Compiler> {
    let exe = std::env::current_exe()
        .context("can't find the petiole binary")
        .map_err(Failure::failed)?;
    let limits = CompileLimits {
        time: config.compile_time.value.0,
        memory: config.compile_memory.value.bytes(),
    };
    Ok(Compiler::child(exe, limits))
}

/// What tasks may be given here: the policy, the values and folders, the key-value storage.
pub(crate) async fn grants(config: &Resolved) -> Result<Grants> {
    let outside = config.outside().map_err(Failure::usage)?;
    let keyvalue = match storage(config) {
        Some(url) => Some(keyvalue(url).await?),
        None => None,
    };
    Ok(granted(config, outside, keyvalue))
}

/// The same, once the key-value storage is up.
pub(crate) async fn grants_when_up(config: &Resolved) -> Result<Grants> {
    let outside = config.outside().map_err(Failure::usage)?;
    let keyvalue = match storage(config) {
        Some(url) => Some(keyvalue_when_up(url).await?),
        None => None,
    };
    Ok(granted(config, outside, keyvalue))
}

/// The key-value storage, where a task may use it.
fn storage(config: &Resolved) -> Option<&ServiceUrl> {
    let url = config.keyvalue.value.as_ref();
    url.filter(|_| config.allows_keyvalue())
}

fn granted(config: &Resolved, outside: Outside, keyvalue: Option<Arc<dyn KeyValue>>) -> Grants {
    let Outside {
        env,
        secrets,
        folders,
    } = outside;
    let values = Values {
        env,
        secrets,
        folders,
        keyvalue,
    };
    Grants {
        policy: config.grants(),
        values,
    }
}

/// As [`grants`], for a process in which no task runs: who pushes to a store need not be able to read the workers'
/// secrets, nor to reach their storage.
pub(crate) async fn grants_to_nobody(config: &Resolved) -> Result<Grants> {
    let keyvalue = match &config.keyvalue.value {
        Some(_) => Some(keyvalue(&"sqlite://:memory:".into()).await?),
        None => None,
    };
    let names = config.secrets.keys().cloned();
    let values = Values {
        env: config
            .env
            .keys()
            .cloned()
            .map(|name| (name, String::new()))
            .collect(),
        secrets: names.map(|name| (name, String::new().into())).collect(),
        folders: config
            .folders
            .iter()
            .map(|(name, folder)| (name.clone(), folder.value.clone()))
            .collect(),
        keyvalue,
    };
    Ok(Grants {
        policy: config.grants(),
        values,
    })
}

async fn keyvalue(url: &ServiceUrl) -> Result<Arc<dyn KeyValue>> {
    petiole_storage::keyvalue::connect(url)
        .await
        .map_err(keyvalue_failure)
}

async fn keyvalue_when_up(url: &ServiceUrl) -> Result<Arc<dyn KeyValue>> {
    let connect = || petiole_storage::keyvalue::connect(url);
    until_up(connect, |error| {
        matches!(error, ConnectError::Unreachable { .. })
    })
    .await
    .map_err(keyvalue_failure)
}

fn keyvalue_failure(error: ConnectError) -> Failure {
    match error {
        ConnectError::Url { .. } => Failure::usage(error),
        ConnectError::Unreachable { .. } | ConnectError::Refused { .. } => {
            Failure::unreachable(error)
        }
    }
}

/// Where the audit goes.
pub(crate) fn audit(config: &Resolved) -> Result<Audit> {
    Audit::open(config.http.audit.value.as_deref()).map_err(|error| audit_failure(config, error))
}

fn audit_failure(config: &Resolved, error: std::io::Error) -> Failure {
    let audit = &config.http.audit;
    let file = audit.value.as_deref().unwrap_or(Path::new("")).display();
    let failure = anyhow::Error::from(error);
    let origin = &audit.origin;
    Failure::usage(failure.context(format!("can't write the audit file {file} (from {origin})")))
}

/// Whether all that a worker opens on this machine can be, as far as nothing has to be made for it.
pub(crate) fn check(config: &Resolved) -> Result<()> {
    if let Some(file) = &config.http.audit.value {
        Audit::check(file).map_err(|error| audit_failure(config, error))?;
    }
    signatures(config)?;
    defaults(config)?;
    store_folder(config)?;
    if Path::new(&config.cache.value).exists() {
        cache(config)?;
    }
    Ok(())
}

fn store_folder(config: &Resolved) -> Result<()> {
    let (url, origin) = (&config.store.value, &config.store.origin);
    let folder = url.expose().strip_prefix("file://").map(Path::new);
    match folder.is_some_and(|folder| folder.exists() && !folder.is_dir()) {
        true => Err(Failure::failed(anyhow!(
            "can't use the store {url} (from {origin}): it is not a folder"
        ))),
        false => Ok(()),
    }
}

/// Whose modules are taken; none where everybody's are.
fn signatures(config: &Resolved) -> Result<Option<SignaturePolicy>> {
    let keys = &config.http.signature_keys;
    if keys.value.is_empty() {
        return Ok(None);
    }
    let mut texts = Vec::new();
    for key in &keys.value {
        texts.push(match is_key(key) {
            true => key.clone(),
            false => std::fs::read_to_string(key)
                .with_context(|| {
                    format!("signatures.keys: {key:?} is neither a minisign public key nor a file")
                })
                .map_err(Failure::usage)?,
        });
    }
    let texts = texts.iter().map(String::as_str);
    SignaturePolicy::new(texts, config.http.signatures_required.value)
        .map(Some)
        .with_context(|| format!("signatures.keys (from {})", keys.origin))
        .map_err(Failure::usage)
}

/// Opens the store. A worker loads what is active in it; who installs need not.
pub(crate) async fn registry(
    config: &Resolved,
    slots: u32,
    grants: Grants,
) -> Result<Arc<Registry>> {
    let (runtime, cache, compiler) = (runtime(config, slots)?, cache(config)?, compiler(config)?);
    Registry::open(
        &config.store.value,
        runtime,
        cache,
        compiler,
        defaults(config)?,
        grants,
        signatures(config)?,
    )
    .await
    .with_context(|| {
        format!(
            "can't use the store {} (from {})",
            config.store.value, config.store.origin
        )
    })
    .map_err(Failure::failed)
}

/// What a task may use where its manifest says nothing, and the most that a manifest may ask for.
pub(crate) fn defaults(config: &Resolved) -> Result<TaskDefaults> {
    Ok(TaskDefaults {
        limits: config.limits.limits().map_err(Failure::usage)?,
        most: config.max_limits.limits().map_err(Failure::usage)?,
        max_retries: config.retry_max.value,
        default_retry_delay: config.retry_delay.value.0,
    })
}

/// Bytes of memory that the messages which follow one task may take on the largest machines.
const MOST_SENT: usize = 256 << 20;

/// What the plan needs to know of this worker.
pub(crate) fn policy(config: &Resolved, results: &Results) -> Policy {
    Policy {
        hostname: config.hostname.value.clone(),
        origin: origin(config),
        routes: config.routes(),
        results: results.mode(),
        result_extended: config.result_extended.value,
        quarantine: config.quarantine_queue.value.clone(),
        sent_limit: (Budget::most_of_plan(memory_budget(config)) / Plan::COPIES).min(MOST_SENT),
    }
}

/// Header `origin` of what this process sends: Celery's `pid@host`.
pub(crate) fn origin(config: &Resolved) -> String {
    let node = &config.hostname.value;
    let host = node.split_once('@').map_or(node.as_str(), |(_, host)| host);
    format!("{}@{host}", std::process::id())
}
