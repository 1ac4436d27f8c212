use jiff::Timestamp;
use petiole_modules::Manifest;

use super::node::Node;
use super::{block_on, component_file};
use crate::cli::DevArgs;
use crate::config::{Resolved, Sources, Written};
use crate::exit::{Failure, Result};
use crate::{http, logging, session};

/// `petiole dev`
pub(super) fn run(sources: Sources, args: DevArgs) -> Result {
    let files = args.files.iter().map(|file| {
        Ok((
            component_file::module_name(file)?,
            component_file::read(file)?,
        ))
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    let config = config(sources, args)?;
    logging::init(config.loglevel.value, config.log_format.value);
    block_on(async {
        let settings = ["broker", "results"]
            .into_iter()
            .zip([&config.broker.value, &config.results.value]);
        let settings = settings
            .map(|(key, value)| (key.to_owned(), value.as_str().into()))
            .collect();
        let listening = http::listen(&config, Some(http::DEV)).await?;
        let node = Node::open(config).await?;
        push(&node, files).await?;
        let hint = hint(&node);
        Box::pin(node.work(listening, settings, &hint)).await
    })
}

/// The settings of this folder, but the embedded broker and results: one SQLite file in `.petiole`.
fn config(sources: Sources, args: DevArgs) -> Result<Resolved> {
    let database = session::make_dir()?.join("dev.db");
    let url = format!("sqlite://{}", database.display());
    let mut flags = Written::default().with_node(args.node);
    flags.broker = Some(url.clone());
    flags.results = Some(url);
    sources.resolve(flags).map_err(Failure::usage)
}

async fn push(node: &Node, files: Vec<(String, Vec<u8>)>) -> Result<()> {
    for (name, component) in files {
        let installed = node
            .registry
            .install(&name, component, Manifest::default(), Timestamp::now())
            .await;
        installed.map_err(|error| match error.is_refusal() {
            true => Failure::usage(error),
            false => Failure::failed(error),
        })?;
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
