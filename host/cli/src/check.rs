//! What can be told of a worker's configuration without its servers: `petiole config check` says it, and so does a worker
//! before it does anything.

use crate::config::Resolved;
use crate::exit::{Failure, Result};
use crate::{api, open};

/// Looks at everything that a worker needs on this machine.
pub(crate) fn check(config: &Resolved) -> Result<()> {
    config.check_broker().map_err(Failure::usage)?;
    config.check_results().map_err(Failure::usage)?;
    config.outside().map_err(Failure::usage)?;
    config.certificates().map_err(Failure::usage)?;
    api::check(config)?;
    open::check(config)
}
