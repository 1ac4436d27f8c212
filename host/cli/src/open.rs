//! Opens what a resolved configuration names: broker, results, runtime, registry.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use petiole_api::Audit;
use petiole_broker::{Broker, BrokerError, PublishError};
use petiole_celery::plan::{Plan, Policy};
use petiole_modules::SigningPolicy;
use petiole_permits::{KeyValue, ServiceUrl};
use petiole_runtime::{Budget, Cache, CompileLimits, Compiler, PoolSize, Runtime};
use petiole_storage::keyvalue::ConnectError;
use petiole_storage::results::{ResultError, Results};
use petiole_worker::{Grants, Registry, TaskDefaults, Values};

use crate::config::{
    BrokerSettings, Config, GrantSettings, HttpSettings, ModuleSettings, Outside, ResultSettings,
    is_key,
};
use crate::exit::{Failure, Result};
use crate::wait::until_up;

/// Connects to the broker, for one who consumes nothing.
pub(crate) async fn broker(settings: &BrokerSettings) -> Result<Arc<dyn Broker>> {
    settings.check_url().map_err(Failure::usage)?;
    petiole_broker::connect(&settings.url, petiole_broker::MESSAGES)
        .await
        .map_err(|error| connect_failure(settings, error))
}

/// Connects a worker to the broker, once it is up.
pub(crate) async fn broker_when_up(config: &Config) -> Result<Arc<dyn Broker>> {
    let memory = Budget::of_messages(config.worker.budget());
    let connect = || petiole_broker::connect(&config.broker.url, memory);
    until_up(connect, |error| {
        matches!(error, BrokerError::Unreachable { .. }) && !error.is_final()
    })
    .await
    .map_err(|error| connect_failure(&config.broker, error))
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

fn connect_failure(settings: &BrokerSettings, error: BrokerError) -> Failure {
    match error {
        BrokerError::Url { .. } => Failure::usage(error),
        error => Failure::unreachable(anyhow::Error::from(error).context(format!(
            "can't reach the broker (from {}; set it with -b URL, PETIOLE_BROKER_URL or petiole.toml, or try `petiole dev`)",
            settings.origins.of("broker")
        ))),
    }
}

/// Opens the result backend.
pub(crate) async fn results(settings: &ResultSettings) -> Result<Results> {
    settings.check_url().map_err(Failure::usage)?;
    Results::connect(&settings.url, settings.expires.0)
        .await
        .map_err(result_failure)
}

/// Opens the result backend of a worker, once it is up.
pub(crate) async fn results_when_up(settings: &ResultSettings) -> Result<Results> {
    let connect = async || {
        let results = Results::connect(&settings.url, settings.expires.0).await?;
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

/// Makes a sandbox pool for `slots` tasks at once.
pub(crate) fn runtime(config: &Config, slots: u32) -> Result<Runtime> {
    let size = PoolSize {
        slots,
        max_memory: config.limits.most.memory,
        budget: config.worker.budget(),
        readers: std::thread::available_parallelism().map_or(1, usize::from),
    };
    Runtime::new(size)
        .context("can't make the sandbox pool")
        .map_err(Failure::failed)
}

/// Opens the cache of compiled code.
pub(crate) fn cache(modules: &ModuleSettings) -> Result<Cache> {
    let dir = Path::new(&modules.cache);
    Cache::open(dir)
        .with_context(|| format!("can't use the cache folder {}", dir.display()))
        .map_err(Failure::failed)
}

/// Compiles in a child process with limits.
pub(crate) fn compiler(modules: &ModuleSettings) -> Result<Compiler> {
    let exe = std::env::current_exe()
        .context("can't find the petiole binary")
        .map_err(Failure::failed)?;
    let limits = CompileLimits {
        time: modules.compile_time.0,
        memory: modules.compile_memory.bytes(),
    };
    Ok(Compiler::child(exe, limits))
}

/// Everything that tasks may be given here: the policy, the values and folders, the key-value storage.
pub(crate) async fn grants(settings: &GrantSettings) -> Result<Grants> {
    let outside = settings.outside().map_err(Failure::usage)?;
    let keyvalue = match storage(settings) {
        Some(url) => Some(keyvalue(url).await?),
        None => None,
    };
    Ok(granted(settings, outside, keyvalue))
}

/// The same, once the key-value storage is up.
pub(crate) async fn grants_when_up(settings: &GrantSettings) -> Result<Grants> {
    let outside = settings.outside().map_err(Failure::usage)?;
    let keyvalue = match storage(settings) {
        Some(url) => Some(keyvalue_when_up(url).await?),
        None => None,
    };
    Ok(granted(settings, outside, keyvalue))
}

/// The key-value storage, where a task may use it.
fn storage(settings: &GrantSettings) -> Option<&ServiceUrl> {
    let url = settings.keyvalue.as_ref();
    url.filter(|_| settings.allows_keyvalue())
}

fn granted(
    settings: &GrantSettings,
    outside: Outside,
    keyvalue: Option<Arc<dyn KeyValue>>,
) -> Grants {
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
        policy: settings.policy(),
        values,
    }
}

/// As [`grants`], for a process in which no task runs: who pushes to a store need not be able to read the workers'
/// secrets, nor to reach their storage.
pub(crate) async fn grants_to_nobody(settings: &GrantSettings) -> Result<Grants> {
    let keyvalue = match &settings.keyvalue {
        Some(_) => Some(keyvalue(&"sqlite://:memory:".into()).await?),
        None => None,
    };
    let (env, secrets) = (settings.env.keys(), settings.secrets.keys());
    let values = Values {
        env: env.map(|name| (name.clone(), String::new())).collect(),
        secrets: secrets
            .map(|name| (name.clone(), String::new().into()))
            .collect(),
        folders: settings.folders.clone(),
        keyvalue,
    };
    Ok(Grants {
        policy: settings.policy(),
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

/// Opens the audit.
pub(crate) fn audit(http: &HttpSettings) -> Result<Audit> {
    Audit::open(http.audit.as_deref()).map_err(|error| audit_failure(http, error))
}

fn audit_failure(http: &HttpSettings, error: std::io::Error) -> Failure {
    let file = http.audit.as_deref().unwrap_or(Path::new("")).display();
    let failure = anyhow::Error::from(error);
    let origin = http.origins.of("audit");
    Failure::usage(failure.context(format!("can't write the audit file {file} (from {origin})")))
}

/// Checks that a worker can open what it needs on this machine, as far as nothing has to be made for it.
pub(crate) fn check(config: &Config) -> Result<()> {
    if let Some(file) = &config.http.audit {
        Audit::check(file).map_err(|error| audit_failure(&config.http, error))?;
    }
    signatures(&config.modules)?;
    store_folder(&config.modules)?;
    if Path::new(&config.modules.cache).exists() {
        cache(&config.modules)?;
    }
    Ok(())
}

fn store_folder(modules: &ModuleSettings) -> Result<()> {
    let (url, origin) = (&modules.store, modules.origins.of("store"));
    let folder = url.expose().strip_prefix("file://").map(Path::new);
    match folder.is_some_and(|folder| folder.exists() && !folder.is_dir()) {
        true => Err(Failure::failed(anyhow!(
            "can't use the store {} (from {origin}): it is not a folder",
            url
        ))),
        false => Ok(()),
    }
}

/// The keys whose modules are taken; none where everybody's are.
pub(crate) fn signatures(modules: &ModuleSettings) -> Result<Option<SigningPolicy>> {
    let keys = &modules.signature_keys.0;
    if keys.is_empty() {
        return Ok(None);
    }
    let mut texts = Vec::new();
    for key in keys {
        texts.push(match is_key(key) {
            true => key.clone(),
            false => key_of_file(key).map_err(Failure::usage)?,
        });
    }
    let texts = texts.iter().map(String::as_str);
    SigningPolicy::new(texts, modules.signatures_required)
        .map(Some)
        .with_context(|| {
            let origin = modules.origins.of("signatures.keys");
            format!("signatures.keys (from {origin})")
        })
        .map_err(Failure::usage)
}

/// The key in a file. Nothing else of it is quoted: it may be the secret one.
fn key_of_file(path: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("signatures.keys: {path:?} is neither a minisign public key nor a file")
    })?;
    let key = text.lines().map(str::trim).find(|line| is_key(line));
    key.map(str::to_owned).ok_or_else(|| {
        anyhow!("signatures.keys: {path:?} holds no minisign public key: name the file of the public one, KEY.pub")
    })
}

/// Opens the store. A worker loads what is active in it; a command that installs need not.
pub(crate) async fn registry(config: &Config, slots: u32, grants: Grants) -> Result<Arc<Registry>> {
    let modules = &config.modules;
    let (runtime, cache, compiler) = (runtime(config, slots)?, cache(modules)?, compiler(modules)?);
    Registry::open(
        &modules.store,
        runtime,
        cache,
        compiler,
        defaults(config),
        grants,
        signatures(modules)?,
    )
    .await
    .with_context(|| {
        format!(
            "can't use the store {} (from {})",
            modules.store,
            modules.origins.of("store")
        )
    })
    .map_err(Failure::failed)
}

/// The limits of a task where its manifest says nothing, and the most that a manifest may ask for.
pub(crate) fn defaults(config: &Config) -> TaskDefaults {
    TaskDefaults {
        limits: config.limits.limits,
        most: config.limits.most,
        max_retries: config.worker.retry_max,
        default_retry_delay: config.worker.retry_delay.0,
    }
}

/// Bytes of memory that the messages which follow one task may take on the largest machines.
const MOST_SENT: usize = 256 << 20;

/// The facts about this worker that a plan needs.
pub(crate) fn policy(config: &Config, results: &Results) -> Policy {
    Policy {
        hostname: config.worker.hostname.clone(),
        origin: origin(config),
        routes: config.broker.routes(),
        results: results.mode(),
        result_extended: config.results.extended,
        quarantine: config.broker.quarantine_queue.clone(),
        sent_limit: (Budget::most_of_plan(config.worker.budget()) / Plan::COPIES).min(MOST_SENT),
    }
}

/// Header `origin` of what this process sends: Celery's `pid@host`.
pub(crate) fn origin(config: &Config) -> String {
    let node = &config.worker.hostname;
    let host = node.split_once('@').map_or(node.as_str(), |(_, host)| host);
    format!("{}@{host}", std::process::id())
}
