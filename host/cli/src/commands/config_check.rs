use super::output::print_text;
use crate::check::check;
use crate::cli::WorkerArgs;
use crate::config::{Flags, Sources};
use crate::exit::{Exit, Failure, Result};

/// `petiole config check`
pub(super) fn run(sources: Sources, args: WorkerArgs) -> Result {
    let flags = Flags::default().with(&args);
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    check(&config)?;
    print_text(&config.show())?;
    for warning in config.worker.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(Exit::Ok)
}
