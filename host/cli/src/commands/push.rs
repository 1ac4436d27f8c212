use super::target::Target;
use super::{component_file, given, print_json, print_text, signature_file};
use crate::api::{InstalledDocument, Push};
use crate::cli::PushArgs;
use crate::config::Sources;
use crate::exit::{Exit, Result};
use crate::logging::escaped;

/// `petiole push`
pub(super) fn run(sources: Sources, args: PushArgs) -> Result {
    let component = component_file::read(&args.file)?;
    let manifest = component_file::manifest(args.manifest.as_deref())?;
    let push = Push {
        name: args.name,
        component,
        manifest: manifest.unwrap_or_default(),
        signature: signature_file::read(&args.file, args.signature.as_deref())?,
    };
    let installed = Target::resolve(sources, args.target)?.push(push)?;
    if args.json {
        print_json(&installed)?
    } else {
        print_text(&text(&installed))?
    }
    Ok(Exit::Ok)
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
    text
}
