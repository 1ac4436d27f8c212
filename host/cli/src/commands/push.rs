use std::time::Duration;

use petiole_api::documents::{InstalledDocument, WorkerDocument};

use super::output::{print_json, print_text};
use super::target::Target;
use super::{component_file, given, signature_file};
use crate::cli::PushArgs;
use crate::client::Push;
use crate::config::Sources;
use crate::exit::{Exit, Result};
use crate::logging::escaped;

/// Seconds that a push waits for the workers by default: they look at the store each second.
const WAIT: u64 = 10;

/// `petiole push`
pub(super) fn run(sources: Sources, args: PushArgs) -> Result {
    let component = component_file::read(&args.file)?;
    let manifest = component_file::manifest(args.manifest.as_deref())?;
    let push = Push {
        name: args.name,
        component,
        manifest: manifest.unwrap_or_default(),
        signature: signature_file::read(&args.file, args.signature.as_deref())?,
        wait: Duration::from_secs(args.wait.unwrap_or(WAIT)),
    };
    let installed = Target::resolve(sources, args.target)?.push(push)?;
    if args.json {
        print_json(&installed)?
    } else {
        print_text(&text(&installed))?
    }
    // A caller that asks to wait relies on every worker having it.
    Ok(match behind(&installed).next() {
        Some(_) if args.wait.is_some_and(|wait| wait > 0) => Exit::Pending,
        _ => Exit::Ok,
    })
}

/// The workers that have not what was installed.
fn behind(installed: &InstalledDocument) -> impl Iterator<Item = &WorkerDocument> {
    let workers = installed.workers.iter();
    workers.filter(|worker| worker.state.version != Some(installed.version))
}

/// The number of workers that have it, where there are any, and the reasons why others have not.
fn workers(installed: &InstalledDocument) -> String {
    let (all, behind) = (installed.workers.len(), behind(installed).count());
    if all == 0 {
        return String::new();
    }
    let having = all.saturating_sub(behind);
    let mut text = format!("{having} of {all} workers have it\n");
    for WorkerDocument { worker, state } in self::behind(installed) {
        let reason = state.reason.as_deref().unwrap_or("not yet");
        text.push_str(&format!("  {}: {}\n", escaped(worker), escaped(reason)));
    }
    text
}

fn text(installed: &InstalledDocument) -> String {
    let signed = installed.signed_by.as_ref();
    let signed = signed.map_or_else(String::new, |key| {
        format!(", signed by key {}", escaped(key))
    });
    let mut text = format!(
        "module {} version {} is active{signed}; it answers:\n",
        installed.module, installed.version
    );
    for task in &installed.tasks {
        text.push_str(&format!("  {}\n", escaped(&task.signature)));
        for line in given::capabilities(&task.capabilities) {
            text.push_str(&format!("      {line}\n"));
        }
    }
    let mut refused = installed
        .tasks
        .iter()
        .map(|task| &task.capabilities.refused);
    if refused.any(|refused| !refused.is_empty()) {
        let hint = given::hint(&installed.module);
        text.push_str(&format!("what is refused is not allowed here: {hint}\n"));
    }
    for export in &installed.refused {
        text.push_str(&format!(
            "not a task: {}: {}\n",
            escaped(&export.name),
            escaped(&export.reason)
        ));
    }
    text.push_str(&workers(installed));
    text
}
