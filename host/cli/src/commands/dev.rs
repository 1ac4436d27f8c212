use std::path::Path;

use anyhow::Context;
use petiole_api::Actor;
use petiole_modules::Component;

use super::node::Node;
use super::{component_file, signature_file};
use crate::check::check;
use crate::cli::DevArgs;
use crate::config::{Config, Flags, Sources};
use crate::executor::block_on;
use crate::exit::{Failure, Result};
use crate::signals::Signals;
use crate::{api, logging, session};

/// `petiole dev`
pub(super) fn run(sources: Sources, args: DevArgs) -> Result {
    let files = args.files.iter().map(|file| read(file));
    let files = files.collect::<Result<Vec<_>>>()?;
    let config = config(sources, args)?;
    check(&config)?;
    logging::init(config.log.level, config.log.format);
    block_on(async {
        let settings = ["broker", "results"]
            .into_iter()
            .zip([&config.broker.url, &config.results.url]);
        let settings = settings
            .map(|(key, value)| (key.to_owned(), value.expose().into()))
            .collect();
        let api = api::serve_dev(&config.http).await?;
        let node = Node::open(config, Some(&api)).await?;
        push(&node, files).await?;
        let hint = hint(&node);
        let signals = Signals::listen().context("can't listen to signals")?;
        Box::pin(node.work(Some(api), signals, settings, &hint)).await
    })
}

/// The settings of this folder, but the embedded broker and results: one SQLite file in `.petiole`. Key-value
/// storage is another one, where the settings name none.
fn config(sources: Sources, args: DevArgs) -> Result<Config> {
    let database = session::make_dir()?.join("dev.db");
    let url = format!("sqlite://{}", database.display());
    let sources = session::with_keyvalue(sources);
    let flags = Flags::default()
        .with(&args.node)
        .set("broker", Some(url.clone()))
        .set("results", Some(url));
    sources.resolve(flags).map_err(Failure::usage)
}

/// A component to push, with the manifest and the signature beside it, where they are there: my_app.toml and
/// my_app.wasm.minisig for my_app.wasm.
struct File {
    module: String,
    component: Component,
    manifest: String,
    signature: Option<String>,
}

fn read(file: &Path) -> Result<File> {
    let manifest = file.with_extension("toml");
    let manifest = manifest.exists().then_some(manifest);
    let manifest = component_file::manifest(manifest.as_deref())?;
    Ok(File {
        module: component_file::module_name(file)?,
        component: Component::new(component_file::read(file)?),
        manifest: manifest.unwrap_or_default(),
        signature: signature_file::read(file, None)?,
    })
}

async fn push(node: &Node, files: Vec<File>) -> Result<()> {
    for file in files {
        let installed = node.administration.install(
            &node.registry,
            Actor::local(),
            &file.module,
            file.component,
            &file.manifest,
            file.signature,
        );
        installed.await?;
    }
    Ok(())
}

fn hint(node: &Node) -> String {
    let task = node.registry.tasks().first().map_or_else(
        || "my_app.tasks.run_task".to_owned(),
        |task| task.name.clone(),
    );
    format!(
        "\n In another terminal, in this folder:\n   petiole push FILE.wasm --name my_app.tasks\n   petiole tasks\n   \
         petiole send {task} --args '[...]' --wait\n"
    )
}
