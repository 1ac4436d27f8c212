use std::path::Path;

use anyhow::{Context as _, anyhow};
use petiole_celery::Outcome;
use petiole_runtime::{Compiler, Context, Module, Run, Task};
use petiole_worker::InstallError;
use tokio::sync::watch;

use super::{block_on, call, component_file, print_json, print_text, result};
use crate::cli::RunArgs;
use crate::config::{LogFormat, Resolved, Sources, Written};
use crate::exit::{Exit, Failure, Result};
use crate::logging::{self, escaped};
use crate::open;

/// `petiole run`
pub(super) fn run(sources: Sources, args: RunArgs) -> Result {
    let (positional, keyword) = (call::positional(&args.call)?, call::keyword(&args.call)?);
    let component = component_file::read(&args.file)?;
    let name = component_file::module_name(&args.file)?;
    let config = sources
        .resolve(Written::of_run(&args))
        .map_err(Failure::usage)?;
    logging::init(config.loglevel.value, LogFormat::Plain);
    block_on(async {
        let module = load(&config, &name, &component).await?;
        let Some(function) = &args.function else {
            print_text(&functions(&args.file, &module))?;
            return Ok(Exit::Ok);
        };
        let task = module.task(&function.replace('-', "_")).ok_or_else(|| {
            Failure::usage(anyhow!(
                "no function {function}\n{}",
                functions(&args.file, &module).trim_end()
            ))
        })?;
        let arguments = task.bind(&positional, &keyword).map_err(Failure::usage)?;
        let (progress, _) = watch::channel(None);
        let run = task
            .call(arguments, context(task), open::limits(&config)?, &progress)
            .await;
        report(run.context("the host failed, not the task")?)
    })
}

/// Compiles, or takes what is compiled already: the second run starts at once.
async fn load(config: &Resolved, name: &str, component: &[u8]) -> Result<Module> {
    let (runtime, cache) = (open::runtime(config, 1)?, open::cache(config)?);
    let loaded = runtime
        .load(name, component, &cache, &Compiler::in_process())
        .await;
    loaded.map_err(|error| {
        let error = InstallError::from(error);
        if error.is_refusal() {
            Failure::usage(error)
        } else {
            Failure::failed(error)
        }
    })
}

fn functions(file: &Path, module: &Module) -> String {
    let mut text = format!("functions of {}:\n", file.display());
    let prefix = format!("{}.", module.name());
    for task in module.tasks() {
        let signature = task.signature().to_string();
        text.push_str(&format!(
            "  {}\n",
            escaped(signature.strip_prefix(&prefix).unwrap_or(&signature))
        ));
        for line in task.signature().docs.lines() {
            text.push_str(format!("      {}", escaped(line)).trim_end());
            text.push('\n');
        }
    }
    for export in module.refused() {
        text.push_str(&format!(
            "not a task: {}: {}\n",
            escaped(&export.name),
            escaped(&export.reason)
        ));
    }
    text
}

fn context(task: &Task) -> Context {
    let id = uuid::Uuid::new_v4().to_string();
    Context {
        root_id: id.clone(),
        id,
        task: task.signature().name.clone(),
        retries: 0,
        parent_id: None,
        group_id: None,
        group_index: None,
        headers: serde_json::Map::new(),
    }
}

fn report(run: Run) -> Result {
    for signature in &run.sent {
        eprintln!(
            "would send {} (a worker does, once the task has succeeded)",
            escaped(&signature.to_json().to_string())
        );
    }
    match run.outcome {
        Outcome::Success(value) => {
            print_json(&value)?;
            return Ok(Exit::Ok);
        }
        Outcome::Ignore => {
            eprintln!("ignored: no result is stored");
            return Ok(Exit::Ok);
        }
        Outcome::Failure {
            exception,
            traceback,
        } => {
            for line in traceback.as_deref().unwrap_or_default().lines() {
                eprintln!("  {}", escaped(line));
            }
            eprintln!("FAILURE: {}", result::exception(&exception));
        }
        Outcome::Retry { exception, .. } => {
            eprintln!(
                "RETRY: {} (a worker would run it again)",
                result::exception(&exception)
            );
        }
        Outcome::Reject { requeue, reason } => {
            let what = if requeue { "requeue" } else { "dead-letter" };
            eprintln!(
                "REJECTED: {} (a worker would {what} the message)",
                escaped(&reason)
            );
        }
    }
    Ok(Exit::Failed)
}
