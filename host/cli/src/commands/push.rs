use anyhow::Context;

use super::target::Target;
use super::{component_file, print_json, print_text};
use crate::api::InstalledDocument;
use crate::cli::PushArgs;
use crate::config::Sources;
use crate::exit::{Exit, Failure, Result};
use crate::logging::escaped;

/// `petiole push`
pub(super) fn run(sources: Sources, args: PushArgs) -> Result {
    let component = component_file::read(&args.file)?;
    let manifest = args.manifest.map(|path| {
        std::fs::read_to_string(&path)
            .with_context(|| format!("can't read the manifest {}", path.display()))
            .map_err(Failure::usage)
    });
    let manifest = manifest.transpose()?;
    let installed =
        Target::resolve(sources, args.target)?.push(&args.name, component, manifest.as_deref())?;
    if args.json {
        print_json(&installed)?
    } else {
        print_text(&text(&installed))?
    }
    Ok(Exit::Ok)
}

fn text(installed: &InstalledDocument) -> String {
    let mut text = format!(
        "module {} version {} is active; it answers:\n",
        installed.module, installed.version
    );
    for task in &installed.tasks {
        text.push_str(&format!("  {}\n", escaped(&task.signature)));
    }
    for export in &installed.refused {
        text.push_str(&format!(
            "not a task: {}: {}\n",
            escaped(&export.name),
            escaped(&export.reason)
        ));
    }
    text
}
