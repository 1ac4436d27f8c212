use super::output::print_text;
use crate::check::check;
use crate::cli::WorkerArgs;
use crate::config::{Sources, Written, show};
use crate::exit::{Exit, Failure, Result};

/// `petiole config check`
pub(super) fn run(sources: Sources, args: WorkerArgs) -> Result {
    let flags = Written::of_worker(args).map_err(Failure::usage)?;
    let config = sources.resolve(flags).map_err(Failure::usage)?;
    check(&config)?;
    print_text(&show(&config))?;
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(Exit::Ok)
}
