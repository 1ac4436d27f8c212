use jiff::Timestamp;
use petiole_api::{SendError, send};
use petiole_celery::Signature;
use petiole_celery::plan::ResultMode;
use serde_json::{Map, Value, json};

use super::output::{print_json, print_text};
use super::{call, result};
use crate::cli::SendArgs;
use crate::config::{Config, Flags, ResultSettings, Seconds, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::{open, session};

/// `petiole send`
pub(super) fn run(sources: Sources, args: SendArgs) -> Result {
    let signature = signature(&args)?;
    let flags = Flags::default().with(&args.broker).with(&args.results);
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    if args.wait {
        can_wait(&config.results)?;
    }
    session::tell_broker(&config.broker);
    block_on(async {
        let id = publish(&config, &signature, args.queue.as_deref()).await?;
        if !args.wait {
            if args.json {
                print_json(&json!({ "task_id": id }))?
            } else {
                print_text(&format!("{id}\n"))?
            }
            return Ok(Exit::Ok);
        }
        if !args.json {
            eprintln!("{id}");
        }
        wait(&config.results, &id, args.timeout, args.json).await
    })
}

async fn publish(config: &Config, signature: &Signature, queue: Option<&str>) -> Result<String> {
    let broker = open::broker(&config.broker).await?;
    // As Celery's producers do: the operator has named it, here or in the configuration.
    let routes = config.broker.routes();
    let to = routes.destination(&signature.task);
    let queue = queue.or_else(|| to.exchange.is_empty().then_some(to.routing_key.as_str()));
    if let Some(queue) = queue {
        broker.declare(queue).await.map_err(open::broker_failure)?;
    }
    let sent = send(
        &*broker,
        signature,
        &routes,
        &open::origin(config),
        Timestamp::now(),
    )
    .await;
    broker.close().await;
    sent.map_err(|error| match error {
        SendError::Signature(error) => Failure::usage(error),
        SendError::Publish(error) => open::publish_failure(error),
    })
}

/// Waiting is refused before anything is sent.
fn can_wait(results: &ResultSettings) -> Result<()> {
    results.check_url().map_err(Failure::usage)?;
    let url = &results.url;
    match petiole_storage::results::mode(&results.url) {
        Ok(ResultMode::Stored) => Ok(()),
        Ok(ResultMode::Reply) => Err(Failure::usage(anyhow::anyhow!(
            "--wait reads results from a store, and {url} sends them as messages: leave --wait out, or use redis:// or sqlite://"
        ))),
        Ok(ResultMode::Disabled) => Err(Failure::usage(anyhow::anyhow!(
            "--wait needs the results that the worker stores: name its backend with --results URL (now {url}, from {})",
            results.origins.of("results")
        ))),
        Err(error) => Err(Failure::usage(error)),
    }
}

async fn wait(results: &ResultSettings, id: &str, timeout: Seconds, json: bool) -> Result {
    let meta = result::wait(results, id, timeout).await?;
    result::report(id, meta.as_ref(), json)
}

fn signature(args: &SendArgs) -> Result<Signature> {
    let mut options = Map::new();
    let callbacks =
        |tasks: &[String]| -> Vec<Value> { tasks.iter().map(|task| callback(task)).collect() };
    let mut set = |name: &str, value: Option<Value>| {
        options.extend(value.map(|value| (name.to_owned(), value)))
    };
    set(
        "link",
        (!args.link.is_empty()).then(|| callbacks(&args.link).into()),
    );
    set(
        "link_error",
        (!args.link_error.is_empty()).then(|| callbacks(&args.link_error).into()),
    );
    set("queue", args.queue.clone().map(Value::from));
    set(
        "countdown",
        args.countdown.map(|seconds| seconds.0.as_secs_f64().into()),
    );
    set("eta", args.eta.map(|eta| eta.to_string().into()));
    set(
        "expires",
        args.expires.map(|seconds| seconds.0.as_secs_f64().into()),
    );
    Ok(Signature {
        task: args.task.clone(),
        args: call::positional(&args.call)?,
        kwargs: call::keyword(&args.call)?,
        options,
        ..Signature::default()
    })
}

/// A callback by name: it gets the result, or the id of the task that has failed.
fn callback(task: &str) -> Value {
    Signature {
        task: task.to_owned(),
        ..Signature::default()
    }
    .to_json()
}
