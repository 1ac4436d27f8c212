//! Checks of a worker's configuration that need no servers: `petiole config check` makes them, and so does a worker
//! before it does anything.

use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::{api, open};

/// Looks at everything that a worker needs on this machine.
pub(crate) fn check(config: &Config) -> Result<()> {
    config.check_servers().map_err(Failure::usage)?;
    config.grants.outside().map_err(Failure::usage)?;
    api::check(&config.http)?;
    open::check(config)
}
