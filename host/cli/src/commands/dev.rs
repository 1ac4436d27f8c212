use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use petiole_modules::{Digest, Upload};

use super::node::Node;
use super::{component_file, signature_file};
use crate::audit::{Actor, Entry};
use crate::check::check;
use crate::cli::DevArgs;
use crate::config::{Resolved, Sources, Written};
use crate::executor::block_on;
use crate::exit::{Failure, Result};
use crate::http::Listening;
use crate::signals::Signals;
use crate::{http, logging, session};

/// `petiole dev`
pub(super) fn run(sources: Sources, args: DevArgs) -> Result {
    let files = args.files.iter().map(|file| upload(file));
    let files = files.collect::<Result<Vec<_>>>()?;
    let config = config(sources, args)?;
    check(&config)?;
    logging::init(config.loglevel.value, config.log_format.value);
    block_on(async {
        let settings = ["broker", "results"]
            .into_iter()
            .zip([&config.broker.value, &config.results.value]);
        let settings = settings
            .map(|(key, value)| (key.to_owned(), value.as_str().into()))
            .collect();
        let listening = http::listen(&config, Some(http::DEV)).await?;
        let api = listening.map(Listening::serve);
        let node = Node::open(config, api.as_ref()).await?;
        push(&node, files).await?;
        let hint = hint(&node);
        let signals = Signals::listen().context("can't listen to signals")?;
        Box::pin(node.work(api, signals, settings, &hint)).await
    })
}

/// The settings of this folder, but the embedded broker and results: one SQLite file in `.petiole`. Key-value
/// storage is another one, where the settings name none.
fn config(sources: Sources, args: DevArgs) -> Result<Resolved> {
    let database = session::make_dir()?.join("dev.db");
    let url = format!("sqlite://{}", database.display());
    let sources = session::with_keyvalue(sources);
    let mut flags = Written::default().with_node(args.node);
    flags.broker = Some(url.clone());
    flags.results = Some(url);
    sources.resolve(flags).map_err(Failure::usage)
}

/// A component to push, with the manifest and the signature beside it, where they are there: my_app.toml and
/// my_app.wasm.minisig for my_app.wasm.
struct File {
    module: String,
    component: Vec<u8>,
    upload: Upload,
}

fn upload(file: &Path) -> Result<File> {
    let manifest = file.with_extension("toml");
    let manifest = manifest.exists().then_some(manifest);
    let manifest = component_file::manifest(manifest.as_deref())?.unwrap_or_default();
    let upload = Upload::new(Actor::local().name()).with_manifest(&manifest);
    let mut upload = upload.map_err(Failure::usage)?;
    if let Some(signature) = signature_file::read(file, None)? {
        upload = upload.with_signature(signature);
    }
    Ok(File {
        module: component_file::module_name(file)?,
        component: component_file::read(file)?,
        upload,
    })
}

async fn push(node: &Node, files: Vec<File>) -> Result<()> {
    for file in files {
        let (digest, upload) = (Digest::of(&file.component), file.upload);
        let installed = node
            .registry
            .install(
                &file.module,
                file.component,
                digest,
                upload.clone(),
                Timestamp::now(),
            )
            .await;
        let entry = Entry::upload(&file.module, digest, &upload, &installed);
        node.audit.record(&Actor::local(), &entry);
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
