use std::sync::Arc;

use anyhow::anyhow;
use petiole_celery::json;
use petiole_storage::results::{ResultBackend, is_final};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::output::{print_json, print_value};
use crate::cli::ResultArgs;
use crate::config::{Flags, ResultSettings, Seconds, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::logging::escaped;
use crate::open;

/// `petiole result`
pub(super) fn run(sources: Sources, args: ResultArgs) -> Result {
    let config = sources
        .resolve(Flags::default().with(&args.results))
        .map_err(Failure::usage)?;
    block_on(async {
        let id = &args.task_id;
        let meta = if args.wait {
            wait(&config.results, id, args.timeout).await?
        } else {
            backend(&config.results)
                .await?
                .fetch(id)
                .await
                .map_err(open::result_failure)?
        };
        report(id, meta.as_ref(), args.json)
    })
}

/// The stored result, once the task has ended or the time is up.
pub(super) async fn wait(
    results: &ResultSettings,
    id: &str,
    timeout: Seconds,
) -> Result<Option<Value>> {
    let backend = backend(results).await?;
    let deadline = Instant::now()
        .checked_add(timeout.0)
        .ok_or_else(|| anyhow!("--timeout {timeout} is too long"))?;
    match backend
        .wait(id, deadline)
        .await
        .map_err(open::result_failure)?
    {
        Some(meta) => Ok(Some(meta)),
        None => backend.fetch(id).await.map_err(open::result_failure),
    }
}

async fn backend(settings: &ResultSettings) -> Result<Arc<dyn ResultBackend>> {
    let results = open::results(settings).await?;
    results.backend().map(Arc::clone).ok_or_else(|| {
        Failure::usage(anyhow!(
            "{} keeps no results that could be read here: name the worker's backend with --results redis://... or sqlite://...",
            settings.url
        ))
    })
}

/// Prints a task's result: the value of a SUCCESS on stdout as JSON, anything else on stderr.
pub(super) fn report(id: &str, meta: Option<&Value>, json: bool) -> Result {
    let status = meta
        .and_then(|meta| meta.get("status"))
        .and_then(Value::as_str)
        .unwrap_or("PENDING");
    let result = meta
        .and_then(|meta| meta.get("result"))
        .unwrap_or(&Value::Null);
    let exit = match status {
        "SUCCESS" => Exit::Ok,
        _ if meta.is_some_and(is_final) => Exit::Failed,
        _ => Exit::Pending,
    };
    if json {
        match meta {
            Some(meta) => print_value(meta)?,
            None => print_json(&json!({ "task_id": id, "status": status, "result": null }))?,
        }
        return Ok(exit);
    }
    match exit {
        Exit::Ok => print_value(result)?,
        Exit::Pending if meta.is_none() => {
            eprintln!("{status}: nothing is stored for task {id} (yet)")
        }
        Exit::Pending => eprintln!("{status}: {}", json::Text(result)),
        _ => eprintln!("{status}: {}", failure(result)),
    }
    if let Some(traceback) = meta
        .and_then(|meta| meta.get("traceback"))
        .and_then(Value::as_str)
    {
        for line in traceback.lines() {
            eprintln!("  {}", escaped(line));
        }
    }
    Ok(exit)
}

/// A stored exception as Python shows it: `ValueError('bad')`.
fn failure(result: &Value) -> String {
    let Some(name) = result.get("exc_type").and_then(Value::as_str) else {
        return json::Text(result).to_string();
    };
    let args = match result.get("exc_message") {
        Some(Value::Array(args)) => args
            .iter()
            .map(|arg| json::Text(arg).to_string())
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => json::Text(other).to_string(),
        None => String::new(),
    };
    escaped(&format!("{name}({args})"))
}

/// The same, of an exception that was not stored.
pub(super) fn exception(exception: &petiole_celery::Exception) -> String {
    failure(&exception.to_json())
}
