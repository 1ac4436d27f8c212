use std::sync::Arc;
use std::time::Duration;

use petiole_celery::{Outcome, RetryAt};
use petiole_modules::{Manifest, ModuleName, VersionNumber};
use petiole_runtime::{Limits, Module, Task};

use crate::config::TaskDefaults;

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
    /// Celery's `max_retries`.
    pub max_retries: u32,
    /// Celery's `default_retry_delay`.
    pub default_retry_delay: Duration,
}

/// A manifest asks for what there is not.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It names a function that the component doesn't export.
    #[error(
        "the manifest has settings for {function:?}, which the component does not export: it exports {exported}"
    )]
    UnknownTask {
        /// As the manifest names it.
        function: String,
        /// The functions there are.
        exported: String,
    },
    /// It asks for more memory than the worker's pool has for one task.
    #[error(
        "task {task} asks for {asked} bytes of memory, and this worker gives at most {most}: raise its max_memory or ask for less"
    )]
    Memory {
        /// The task.
        task: String,
        /// What the manifest says.
        asked: u64,
        /// What the worker has.
        most: usize,
    },
    /// Another module's task has the name.
    #[error(
        "task name {task} is taken by module {module}: remove that one, or rename the task in the manifest"
    )]
    NameTaken {
        /// The task.
        task: String,
        /// The module that has it.
        module: ModuleName,
    },
}

/// The tasks of a module, with their settings.
pub(crate) fn registered(
    module: &ModuleName,
    version: VersionNumber,
    component: &Module,
    manifest: &Manifest,
    defaults: &TaskDefaults,
) -> Result<Vec<Arc<RegisteredTask>>, SettingsError> {
    check_functions(component, manifest)?;
    let mut tasks = Vec::new();
    for task in component.tasks() {
        let function = &task.signature().function;
        let settings = manifest.settings(function);
        let name = settings
            .name
            .clone()
            .unwrap_or_else(|| format!("{module}.{function}"));
        let memory = match settings.memory {
            None => defaults.limits.memory,
            Some(asked) => usize::try_from(asked)
                .ok()
                .filter(|asked| *asked <= defaults.max_memory)
                .ok_or_else(|| SettingsError::Memory {
                    task: name.clone(),
                    asked,
                    most: defaults.max_memory,
                })?,
        };
        let result = settings
            .max_result
            .and_then(|bytes| usize::try_from(bytes).ok());
        tasks.push(Arc::new(RegisteredTask {
            name,
            module: module.clone(),
            version,
            task: task.clone(),
            limits: Limits {
                memory,
                time: settings.time_limit.unwrap_or(defaults.limits.time),
                soft_time: settings.soft_time_limit.or(defaults.limits.soft_time),
                result: result.unwrap_or(defaults.limits.result),
                ..defaults.limits
            },
            max_retries: settings.max_retries.unwrap_or(defaults.max_retries),
            default_retry_delay: settings
                .default_retry_delay
                .unwrap_or(defaults.default_retry_delay),
        }));
    }
    Ok(tasks)
}

fn check_functions(component: &Module, manifest: &Manifest) -> Result<(), SettingsError> {
    for function in manifest.tasks.keys() {
        if component.task(function).is_none() {
            let exported: Vec<_> = component
                .tasks()
                .map(|task| task.signature().function.as_str())
                .collect();
            return Err(SettingsError::UnknownTask {
                function: function.clone(),
                exported: exported.join(", "),
            });
        }
    }
    Ok(())
}

impl RegisteredTask {
    /// The outcome with the task's own retry settings, where the guest named none.
    pub(crate) fn with_retry_settings(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Retry {
                exception,
                at,
                max_retries,
            } => Outcome::Retry {
                exception,
                at: match at {
                    RetryAt::Default => RetryAt::Countdown(self.default_retry_delay),
                    RetryAt::Countdown(_) | RetryAt::Eta(_) => at,
                },
                max_retries: Some(max_retries.unwrap_or(self.max_retries)),
            },
            Outcome::Success(_)
            | Outcome::Failure { .. }
            | Outcome::Reject { .. }
            | Outcome::Ignore => outcome,
        }
    }
}
