use super::block_on;
use super::node::Node;
use crate::cli::WorkerArgs;
use crate::config::{Sources, Written};
use crate::exit::{Failure, Result};
use crate::{http, logging};

/// `petiole worker`
pub(super) fn run(sources: Sources, args: WorkerArgs) -> Result {
    let flags = Written::of_worker(args).map_err(Failure::usage)?;
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    logging::init(config.loglevel.value, config.log_format.value);
    block_on(async {
        let listening = http::listen(&config, None).await?;
        let node = Node::open(config).await?;
        Box::pin(node.work(listening, toml::Table::new(), "")).await
    })
}
