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
use crate::catalog::task_config::{TaskConfig, configure, default_name};

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
    /// Limits of a call.
    pub limits: Limits,
    /// The number and the times of its retries.
    pub retry: RetrySettings,
    /// Its reach beyond its sandbox: shared by the tasks of its module that ask for the same.
    pub grants: Arc<TaskGrants>,
    /// The turns of its module's tasks, where not all of them may run at once.
    pub(crate) turns: Option<Arc<Semaphore>>,
    /// Set while the worker can't run it, which is logged once.
    pub(crate) awaits_host: AtomicBool,
}

impl RegisteredTask {
    /// Waits until one more of the module's tasks may run; none where all may.
    pub(crate) fn turn(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let turns = self.turns.clone();
        async move { turns?.acquire_owned().await.ok() }
    }

    /// True where both take turns together, or both none.
    pub(crate) fn shares_turns(&self, other: &Self) -> bool {
        match (&self.turns, &other.turns) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// True of the name that its module and its function make, rather than one from the manifest.
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
        let functions = self.component.functions();
        let configs = configure(self.module, functions, self.manifest, defaults, grants)?;
        let tasks = self.component.tasks().zip(configs);
        let registered = |(task, config): (&Task, TaskConfig)| {
            Arc::new(RegisteredTask {
                name: config.name,
                module: self.module.clone(),
                version: self.version,
                task: task.clone(),
                limits: config.limits,
                retry: config.retry,
                grants: config.grants,
                turns: self.turns.clone(),
                awaits_host: AtomicBool::new(false),
            })
        };
        Ok(tasks.map(registered).collect())
    }
}
