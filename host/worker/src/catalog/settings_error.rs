//! Errors of a manifest that asks for what there is not.

use petiole_modules::ModuleName;
use petiole_permits::{Amount, Limit};

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
    /// It asks for more than this worker lets manifests have.
    #[error(
        "task {task}: {key} = {asked} is more than the {most} that this worker gives: ask for less, or raise max_limits.{} in its configuration",
        limit.name()
    )]
    Limit {
        /// The task.
        task: String,
        /// As the manifest names it.
        key: &'static str,
        /// The manifest's value.
        asked: Amount,
        /// The worker's ceiling.
        most: Amount,
        /// As the configuration names it.
        limit: Limit,
    },
    /// It asks for more retries than its task may have runs.
    #[error(
        "task {task}: max_retries = {asked} is more than its max_descendants of {most}, which retries count against: ask for less, or for more of those"
    )]
    Retries {
        /// The task.
        task: String,
        /// The manifest's value.
        asked: u32,
        /// The task's ceiling.
        most: u32,
    },
    /// It gives two functions one name.
    #[error("the manifest names two functions {task}: rename one of them")]
    SameName {
        /// The task.
        task: String,
    },
    /// It asks for what the worker's policy allows, but the worker has not.
    #[error(
        "task {task} is granted {what}, which this worker has no value for: set it under {table} in its configuration"
    )]
    NoValue {
        /// The task.
        task: String,
        /// `secret DATABASE_URL`.
        what: String,
        /// The table that it would be set in.
        table: &'static str,
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
