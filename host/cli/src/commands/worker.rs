use anyhow::Context;

use super::node::Node;
use crate::check::check;
use crate::cli::WorkerArgs;
use crate::config::{Flags, Sources};
use crate::executor::block_on;
use crate::exit::{Exit, Failure, Result};
use crate::signals::Signals;
use crate::{api, logging};

/// `petiole worker`
pub(super) fn run(sources: Sources, args: WorkerArgs) -> Result {
    let flags = Flags::default().with(&args);
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    check(&config)?;
    logging::init(config.log.level, config.log.format);
    block_on(async {
        let api = api::serve(&config.http).await?;
        let mut signals = Signals::listen().context("can't listen to signals")?;
        // Servers that are not up yet are waited for.
        let node = tokio::select! {
            node = Node::open(config, api.as_ref()) => node?,
            () = signals.any() => return Ok(Exit::Ok),
        };
        Box::pin(node.work(api, signals, toml::Table::new(), "")).await
    })
}
