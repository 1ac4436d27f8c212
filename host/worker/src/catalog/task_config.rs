//! The configuration of tasks: by their manifest, and by what this worker allows.

use std::collections::HashSet;
use std::sync::Arc;

use petiole_celery::RetrySettings;
use petiole_modules::{Manifest, ModuleName};
use petiole_permits::Limits;

use crate::catalog::defaults::TaskDefaults;
use crate::catalog::grants::{Grants, TaskGrants};
use crate::catalog::settings_error::SettingsError;

/// A task's name, limits, retries and grants.
#[derive(Debug, Clone)]
pub struct TaskConfig {
    /// The name that Celery calls it by.
    pub name: String,
    /// The limits of a call.
    pub limits: Limits,
    /// The number and the times of its retries.
    pub retry: RetrySettings,
    /// Its reach beyond its sandbox: shared by the tasks of its module that ask for the same.
    pub grants: Arc<TaskGrants>,
}

/// The configuration of a module's functions, in their order.
pub(crate) fn configure<'a>(
    module: &ModuleName,
    functions: impl Iterator<Item = &'a str> + Clone,
    manifest: &Manifest,
    defaults: &TaskDefaults,
    grants: &Grants,
) -> Result<Vec<TaskConfig>, SettingsError> {
    check_functions(functions.clone(), manifest)?;
    // The grants of tasks that ask for nothing of their own, once they are known.
    let mut shared: Option<Arc<TaskGrants>> = None;
    let (mut names, mut all) = (HashSet::new(), Vec::new());
    for function in functions {
        let settings = manifest.settings(function);
        let own = settings.name.clone();
        let name = own.unwrap_or_else(|| default_name(module, function));
        let limits = defaults.limits(&name, &settings)?;
        let decide = |asked| grants.decide(module, &name, asked).map(Arc::new);
        let granted = match (&settings.capabilities, &mut shared) {
            (Some(asked), _) => decide(asked)?,
            (None, Some(shared)) => Arc::clone(shared),
            (None, shared) => Arc::clone(shared.insert(decide(&manifest.capabilities)?)),
        };
        let retry = defaults.retry(&name, &settings, &limits)?;
        if !names.insert(name.clone()) {
            return Err(SettingsError::SameName { task: name });
        }
        all.push(TaskConfig {
            name,
            limits,
            retry,
            grants: granted,
        });
    }
    Ok(all)
}

pub(crate) fn default_name(module: &ModuleName, function: &str) -> String {
    format!("{module}.{function}")
}

/// Checks that a manifest names functions that there are.
///
/// # Errors
/// When it has settings for one that the component does not export.
pub fn check_functions<'a>(
    functions: impl Iterator<Item = &'a str> + Clone,
    manifest: &Manifest,
) -> Result<(), SettingsError> {
    let exported: HashSet<_> = functions.clone().collect();
    let mut named = manifest.tasks.keys();
    match named.find(|function| !exported.contains(function.as_str())) {
        None => Ok(()),
        Some(function) => Err(SettingsError::UnknownTask {
            function: function.clone(),
            exported: functions.collect::<Vec<_>>().join(", "),
        }),
    }
}
