use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use petiole_api::AdministrationError;
use petiole_celery::{Outcome, json};
use petiole_modules::{Component, Manifest, ModuleName};
use petiole_permits::Limits;
use petiole_runtime::{Binary, Compiler, Context, Granted, Module, Run, Task, TaskSchema, Usage};
use petiole_worker::{Grants, InstallError, check_functions};
use tokio::sync::watch;

use super::output::{print_text, print_value};
use super::{call, component_file, given, result};
use crate::cli::RunArgs;
use crate::config::{Config, Flags, LogFormat, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::logging::{self, escaped};
use crate::{open, session};

/// `petiole run`
pub(super) fn run(sources: Sources, mut args: RunArgs) -> Result {
    let (positional, keyword) = (call::positional(&args.call)?, call::keyword(&args.call)?);
    let component = Component::new(component_file::read(&args.file)?);
    let name = match args.name.take() {
        Some(name) => name,
        None => component_file::module_name(&args.file)?,
    };
    let name: ModuleName = name.parse().map_err(Failure::usage)?;
    let manifest = component_file::manifest(args.manifest.as_deref())?.unwrap_or_default();
    let manifest = Manifest::from_toml(&manifest).map_err(Failure::usage)?;
    let flags = Flags::default().with(&args.limits);
    let sources = session::with_keyvalue(sources);
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    if config.grants.allows_keyvalue() {
        session::make_dir()?;
    }
    logging::init(config.log.level, LogFormat::Plain);
    block_on(async {
        let grants = open::grants(&config.grants).await?;
        let module = load(&config, &name, &component, &manifest, &grants).await?;
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
        let (limits, granted) = given_to(task, &config, &name, &manifest, &grants)?;
        let arguments = task.bind(&positional, &keyword, limits.arguments);
        let arguments = arguments.map_err(Failure::usage)?;
        let (progress, _) = watch::channel(None);
        let run = task.call(arguments, context(task), limits, &granted, &progress);
        let run = run.await.context("the host failed, not the task")?;
        if args.verbose {
            eprintln!("{}", used(&run.usage));
        }
        report(run)
    })
}

/// The limits and grants that a worker of this configuration would give to the task; refusals go to stderr.
fn given_to(
    task: &Task,
    config: &Config,
    module: &ModuleName,
    manifest: &Manifest,
    grants: &Grants,
) -> Result<(Limits, Arc<Granted>)> {
    let TaskSchema { name, function, .. } = task.schema();
    let limits = open::defaults(config).limits(name, &manifest.settings(function));
    let grants = grants.decide(module, name, manifest.capabilities(function));
    let (limits, grants) = (limits.map_err(refusal)?, grants.map_err(refusal)?);
    if !grants.refused.is_empty() {
        eprintln!("{}", given::refused(&grants.refused, module.as_str()));
    }
    Ok((limits, grants.granted))
}

/// Compiles, or takes what is compiled already: the second run starts at once.
async fn load(
    config: &Config,
    name: &ModuleName,
    component: &Component,
    manifest: &Manifest,
    grants: &Grants,
) -> Result<Module> {
    let (runtime, cache) = (open::runtime(config, 1)?, open::cache(&config.modules)?);
    let compiler = Compiler::in_process();
    let interfaces = grants.interfaces(name, manifest);
    let binary = Binary {
        wasm: component.bytes(),
        sha256: *component.digest().as_bytes(),
    };
    let loaded = runtime.load(name.as_str(), binary, &cache, &compiler, interfaces);
    let module = loaded
        .await
        .map_err(|error| refusal(grants.refusal(name, manifest, error)))?;
    check_functions(module.functions(), manifest).map_err(refusal)?;
    Ok(module)
}

fn refusal(error: impl Into<InstallError>) -> Failure {
    AdministrationError::from(error.into()).into()
}

fn used(usage: &Usage) -> String {
    let Usage {
        wall,
        cpu,
        peak_memory,
        host_calls,
        log,
        bytes_in,
        bytes_out,
        requests,
        disk,
        children,
    } = usage;
    let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
    format!(
        "used: {wall:.6} s, {cpu:.6} s on a CPU, {peak_memory} bytes of memory, {host_calls} host calls, {log} bytes \
         of log, {requests} requests ({bytes_in} bytes in, {bytes_out} out), {disk} bytes of disk, {children} signatures sent"
    )
}

fn functions(file: &Path, module: &Module) -> String {
    let mut text = format!("functions of {}:\n", file.display());
    let prefix = format!("{}.", module.name());
    for task in module.tasks() {
        let schema = task.schema().to_string();
        text.push_str(&format!(
            "  {}\n",
            escaped(schema.strip_prefix(&prefix).unwrap_or(&schema))
        ));
        for line in task.schema().docs.lines() {
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
        task: task.schema().name.clone(),
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
            escaped(&json::Text(&signature.to_json()).to_string())
        );
    }
    match run.outcome {
        Outcome::Success(value) => {
            print_value(&value)?;
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
