use anyhow::anyhow;
use petiole_api::documents::TaskDocument;
use wildmatch::WildMatch;

use super::given;
use super::output::{print_json, print_text};
use super::target::Target;
use crate::cli::TasksArgs;
use crate::config::Sources;
use crate::exit::{Exit, Failure, Result};
use crate::logging::escaped;

/// `petiole tasks`
pub(super) fn run(sources: Sources, args: TasksArgs) -> Result {
    let mut tasks = Target::resolve(sources, args.target)?.tasks()?;
    if let Some(name) = &args.name {
        let glob = WildMatch::new(name);
        tasks.retain(|task| glob.matches(&task.name));
        if tasks.is_empty() {
            return Err(Failure::usage(anyhow!(
                "no task is called {name}: `petiole tasks` lists all"
            )));
        }
    }
    if args.json {
        print_json(&tasks)?
    } else {
        print_text(&text(&tasks, args.name.is_some()))?
    }
    Ok(Exit::Ok)
}

/// All of each task, or its signature and docs only.
fn text(tasks: &[TaskDocument], all: bool) -> String {
    if tasks.is_empty() {
        return "no tasks yet: petiole push FILE.wasm --name my_app.tasks\n".to_owned();
    }
    let mut text = String::new();
    for task in tasks {
        text.push_str(&format!("{}\n", escaped(&task.signature)));
        for line in task.docs.lines() {
            text.push_str(format!("    {}", escaped(line)).trim_end());
            text.push('\n');
        }
        if all {
            for line in given::capabilities(&task.capabilities) {
                text.push_str(&format!("    {line}\n"));
            }
            text.push_str(&format!("    {}\n", given::limits(&task.limits)));
        }
    }
    text
}
