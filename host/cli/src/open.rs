//! Opens what a resolved configuration names: broker, results, runtime, registry.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use petiole_broker::{Broker, BrokerError};
use petiole_celery::plan::Policy;
use petiole_results::{ResultError, Results};
use petiole_runtime::{Cache, CompileLimits, Compiler, Limits, PoolSize, Runtime};
use petiole_worker::{Registry, TaskDefaults};

use crate::config::{Bytes, Resolved};
use crate::exit::{Failure, Result};

/// Connects to the broker.
pub(crate) async fn broker(config: &Resolved) -> Result<Arc<dyn Broker>> {
    petiole_broker::connect(&config.broker.value).await.map_err(|error| match error {
        BrokerError::Url { .. } => Failure::usage(error),
        error => Failure::unreachable(anyhow::Error::from(error).context(format!(
            "can't reach the broker (from {}; set it with -b URL, PETIOLE_BROKER_URL or petiole.toml, or try `petiole dev`)",
            config.broker.origin
        ))),
    })
}

/// Opens the result backend.
pub(crate) async fn results(config: &Resolved) -> Result<Results> {
    Results::connect(&config.results.value, config.result_expires.value.0)
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
        max_memory: bytes(config.limit_max_memory.value)?,
    };
    Runtime::new(size)
        .context("can't make the sandbox pool")
        .map_err(Failure::failed)
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
        memory: config.compile_memory.value.0,
    };
    Ok(Compiler::child(exe, limits))
}

/// Opens the store and loads what is active in it.
pub(crate) async fn registry(config: &Resolved, slots: u32) -> Result<Arc<Registry>> {
    let (runtime, cache, compiler) = (runtime(config, slots)?, cache(config)?, compiler(config)?);
    Registry::open(
        &config.store.value,
        runtime,
        cache,
        compiler,
        defaults(config)?,
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

/// What a task may use.
pub(crate) fn limits(config: &Resolved) -> Result<Limits> {
    Ok(Limits {
        memory: bytes(config.limit_memory.value)?,
        time: config.limit_time.value.0,
        soft_time: config.limit_soft_time.value.map(|seconds| seconds.0),
        result: bytes(config.limit_result.value)?,
        log: bytes(config.limit_log.value)?,
        children: usize::try_from(config.limit_children.value).unwrap_or(usize::MAX),
    })
}

fn defaults(config: &Resolved) -> Result<TaskDefaults> {
    Ok(TaskDefaults {
        limits: limits(config)?,
        max_memory: bytes(config.limit_max_memory.value)?,
        max_retries: config.retry_max.value,
        default_retry_delay: config.retry_delay.value.0,
    })
}

/// What the plan needs to know of this worker.
pub(crate) fn policy(config: &Resolved, results: &Results) -> Policy {
    Policy {
        hostname: config.hostname.value.clone(),
        origin: origin(config),
        routes: config.routes(),
        results: results.mode(),
        result_extended: config.result_extended.value,
        default_retry_delay: config.retry_delay.value.0,
        max_retries: config.retry_max.value,
        quarantine: config.quarantine_queue.value.clone(),
    }
}

/// Header `origin` of what this process sends: Celery's `pid@host`.
pub(crate) fn origin(config: &Resolved) -> String {
    let node = &config.hostname.value;
    let host = node.split_once('@').map_or(node.as_str(), |(_, host)| host);
    format!("{}@{host}", std::process::id())
}

fn bytes(size: Bytes) -> Result<usize> {
    usize::try_from(size.0).map_err(|_| {
        Failure::usage(anyhow::anyhow!(
            "{size} is more memory than this machine can address"
        ))
    })
}
