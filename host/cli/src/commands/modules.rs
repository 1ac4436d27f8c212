use petiole_api::documents::{ModuleDocument, WorkerDocument};
use petiole_modules::{KeyId, Module};
use petiole_permits::Size;
use serde_json::json;

use super::output::{print_json, print_text};
use super::target::Target;
use crate::cli::{ModulesArgs, ModulesCommand};
use crate::config::Sources;
use crate::exit::{Exit, Result};
use crate::logging::escaped;
use crate::tables::table;

/// `petiole modules`
pub(super) fn run(sources: Sources, args: ModulesArgs) -> Result {
    let target = Target::resolve(sources, args.target)?;
    let json = args.json;
    match args.command {
        ModulesCommand::List => {
            let modules = target.modules()?;
            if json {
                print_json(&modules)?
            } else {
                print_text(&list(&modules))?
            }
        }
        ModulesCommand::Show { name } => {
            let module = target.module(&name)?;
            if json {
                print_json(&module)?
            } else {
                print_text(&show(&module))?
            }
        }
        ModulesCommand::Activate { name, version } => {
            target.activate(&name, version)?;
            active(&name, version, json)?;
        }
        ModulesCommand::Rollback { name } => {
            let version = target.rollback(&name)?;
            active(&name, version, json)?;
        }
        ModulesCommand::Remove {
            name,
            version,
            force,
        } => {
            target.remove(&name, version, force)?;
            let what = version.map_or_else(String::new, |version| format!(" version {version}"));
            if json {
                print_json(&json!({ "module": name, "version": version }))?;
            } else {
                print_text(&format!("module {name}{what} is removed\n"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn active(name: &str, version: u32, json: bool) -> Result<()> {
    if json {
        return print_json(&json!({ "module": name, "version": version }));
    }
    print_text(&format!("module {name} version {version} is active\n"))
}

fn list(modules: &[ModuleDocument]) -> String {
    let rows: Vec<_> = modules
        .iter()
        .map(|ModuleDocument { module, workers }| {
            let active = module
                .active
                .map_or_else(|| "none".to_owned(), |version| version.to_string());
            [
                module.name.to_string(),
                active,
                module.versions.len().to_string(),
                having(module, workers),
            ]
        })
        .collect();
    let failed: Vec<_> = modules.iter().map(failed).collect();
    table(["MODULE", "ACTIVE", "VERSIONS", "WORKERS"], &rows) + &failed.concat()
}

/// The number of workers that have the active version, of those that there are: `2/3`.
fn having(module: &Module, workers: &[WorkerDocument]) -> String {
    if module.active.is_none() || workers.is_empty() {
        return "-".to_owned();
    }
    let having = workers.iter();
    let having = having.filter(|worker| worker.state.version == module.active);
    format!("{}/{}", having.count(), workers.len())
}

/// The reasons why workers do not have the active version.
fn failed(ModuleDocument { module, workers }: &ModuleDocument) -> String {
    let lines = workers
        .iter()
        .filter_map(|WorkerDocument { worker, state }| {
            let reason = state.reason.as_deref()?;
            let how = match state.refused {
                true => "refuses",
                false => "has not loaded",
            };
            Some(format!(
                "{} {how} {}: {}\n",
                escaped(worker),
                module.name,
                escaped(reason)
            ))
        });
    lines.collect()
}

fn show(document: &ModuleDocument) -> String {
    let module = &document.module;
    let rows: Vec<_> = module
        .versions
        .iter()
        .map(|version| {
            let active = if module.active == Some(version.number) {
                "*"
            } else {
                ""
            };
            [
                format!("{}{active}", version.number),
                version.uploaded_at.to_string(),
                escaped(version.uploaded_by.as_deref().unwrap_or("-")),
                escaped(version.activated_by.as_deref().unwrap_or("-")),
                signer(version.signature.as_deref()),
                Size::new(version.size).to_string(),
                version.digest.to_string(),
            ]
        })
        .collect();
    format!(
        "module {} (* active)\n{}{}{}",
        module.name,
        table(
            [
                "VERSION",
                "UPLOADED",
                "BY",
                "ACTIVATED BY",
                "SIGNED BY KEY",
                "SIZE",
                "SHA256"
            ],
            &rows
        ),
        workers(document),
        manifest(module)
    )
}

/// The version that each worker has.
fn workers(document: &ModuleDocument) -> String {
    if document.workers.is_empty() || document.module.active.is_none() {
        return String::new();
    }
    let rows: Vec<_> = document
        .workers
        .iter()
        .map(|WorkerDocument { worker, state }| {
            let version = state.version;
            let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            [escaped(worker), version]
        })
        .collect();
    format!(
        "\n{}{}",
        table(["WORKER", "HAS VERSION"], &rows),
        failed(document)
    )
}

/// The key that a signature claims to be by: the workers check it.
fn signer(signature: Option<&str>) -> String {
    let key = signature.and_then(|signature| KeyId::of_signature(signature).ok());
    key.map_or_else(|| "-".to_owned(), |key| key.to_string())
}

/// The manifest of the active version; each worker decides on its own how much it grants of it.
fn manifest(module: &Module) -> String {
    let Some(active) = module.active_version() else {
        return String::new();
    };
    // Serializing plain data can't fail.
    let manifest = toml::to_string(&active.manifest).unwrap_or_default();
    if manifest.is_empty() {
        return String::new();
    }
    let lines = manifest.lines().map(|line| format!("  {}", escaped(line)));
    let lines: Vec<_> = lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    format!(
        "\nmanifest of version {}:\n{}",
        active.number,
        lines.concat()
    )
}
