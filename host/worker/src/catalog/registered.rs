use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use petiole_celery::RetrySettings;
use petiole_modules::{Manifest, ModuleName, VersionNumber};
use petiole_permits::Limits;
use petiole_runtime::{Module, Task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::catalog::defaults::TaskDefaults;
use crate::catalog::grants::{Grants, TaskGrants};
use crate::catalog::settings_error::SettingsError;

/// A task that answers: an export of an active module, with the settings that its manifest gives it.
#[derive(Debug)]
pub struct RegisteredTask {
    /// The name that Celery calls it by.
    pub name: String,
    /// Its module.
    pub module: ModuleName,
    /// The module's version.
    pub version: VersionNumber,
    /// The export.
    pub task: Task,
    /// What a call may use.
    pub limits: Limits,
    /// How often and when it runs again that asks for it.
    pub retry: RetrySettings,
    /// What it may reach beyond its sandbox: shared by the tasks of its module that ask for the same.
    pub grants: Arc<TaskGrants>,
    /// The turns of its module's tasks, where not all of them may run at once.
    pub(crate) turns: Option<Arc<Semaphore>>,
    /// Whether the worker could not run it the last time, which is told of once.
    pub(crate) awaits_host: AtomicBool,
}

impl RegisteredTask {
    /// Waits until one more of the module's tasks may run; none where all may.
    pub(crate) fn turn(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let turns = self.turns.clone();
        async move { turns?.acquire_owned().await.ok() }
    }

    /// Whether both take turns together, or both none.
    pub(crate) fn shares_turns(&self, other: &Self) -> bool {
        match (&self.turns, &other.turns) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether it has the name that its module and its function make, rather than one from the manifest.
    pub(crate) fn has_default_name(&self) -> bool {
        self.name == default_name(&self.module, &self.task.schema().function)
    }
}

/// A module's version, as it is registered.
pub(crate) struct Registration<'a> {
    pub(crate) module: &'a ModuleName,
    pub(crate) version: VersionNumber,
    pub(crate) component: &'a Module,
    pub(crate) manifest: &'a Manifest,
    pub(crate) turns: Option<Arc<Semaphore>>,
}

impl Registration<'_> {
    /// The tasks of the module, with their settings.
    pub(crate) fn tasks(
        &self,
        defaults: &TaskDefaults,
        grants: &Grants,
    ) -> Result<Vec<Arc<RegisteredTask>>, SettingsError> {
        check_functions(self.component, self.manifest)?;
        let mut shared = None;
        let mut registered = Vec::new();
        let mut names = HashSet::new();
        for task in self.component.tasks() {
            let task = self.task(task, defaults, grants, &mut shared)?;
            if !names.insert(task.name.clone()) {
                return Err(SettingsError::SameName { task: task.name });
            }
            registered.push(Arc::new(task));
        }
        Ok(registered)
    }

    /// `shared`: what tasks are granted that ask for nothing of their own, once it is known.
    fn task(
        &self,
        task: &Task,
        defaults: &TaskDefaults,
        grants: &Grants,
        shared: &mut Option<Arc<TaskGrants>>,
    ) -> Result<RegisteredTask, SettingsError> {
        let function = &task.schema().function;
        let settings = self.manifest.settings(function);
        let own = settings.name.clone();
        let name = own.unwrap_or_else(|| default_name(self.module, function));
        let limits = defaults.limits(&name, &settings)?;
        let decide = |asked| grants.decide(self.module, &name, asked).map(Arc::new);
        let granted = match (&settings.capabilities, shared) {
            (Some(asked), _) => decide(asked)?,
            (None, Some(shared)) => Arc::clone(shared),
            (None, shared) => Arc::clone(shared.insert(decide(&self.manifest.capabilities)?)),
        };
        Ok(RegisteredTask {
            module: self.module.clone(),
            version: self.version,
            task: task.clone(),
            limits,
            retry: defaults.retry(&name, &settings, &limits)?,
            grants: granted,
            turns: self.turns.clone(),
            name,
            awaits_host: AtomicBool::new(false),
        })
    }
}

fn default_name(module: &ModuleName, function: &str) -> String {
    format!("{module}.{function}")
}

/// That a manifest names functions that there are.
///
/// # Errors
/// When it has settings for one that the component does not export.
pub fn check_functions(component: &Module, manifest: &Manifest) -> Result<(), SettingsError> {
    let missing = manifest
        .tasks
        .keys()
        .find(|function| component.task(function).is_none());
    let Some(function) = missing else {
        return Ok(());
    };
    let tasks = component.tasks();
    let exported: Vec<_> = tasks.map(|task| task.schema().function.as_str()).collect();
    Err(SettingsError::UnknownTask {
        function: function.clone(),
        exported: exported.join(", "),
    })
}
