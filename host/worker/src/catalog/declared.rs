//! The tasks of a store as its versions declare them: by their schemas and manifests, without compiling a component.

use std::collections::BTreeMap;

use petiole_modules::{
    CatalogError, ModuleName, SigningPolicy, Store, StoreError, Version, VersionNumber,
};
use petiole_runtime::{Module, Task, TaskSchema};

use crate::catalog::active::{NotLoaded, in_order_of_claim, reason};
use crate::catalog::defaults::TaskDefaults;
use crate::catalog::grants::Grants;
use crate::catalog::task_config::{TaskConfig, configure, default_name};
use crate::catalog::trouble::{InstallError, RegistryError};

/// A task of an active version, as far as it is known without its component's code.
#[derive(Debug, Clone)]
pub struct DeclaredTask {
    /// Its module.
    pub module: ModuleName,
    /// The module's version.
    pub version: VersionNumber,
    /// Its schema.
    pub schema: TaskSchema,
    /// Its name, and what it may use.
    pub config: TaskConfig,
}

/// The tasks that the active versions of a store declare, by their names, and the versions that are left out. It blocks.
/// Imports are not looked at: they are where a version is loaded.
///
/// # Errors
/// When the catalog can't be read.
pub fn declared_tasks(
    store: &Store,
    defaults: &TaskDefaults,
    grants: &Grants,
    signatures: Option<&SigningPolicy>,
) -> Result<(Vec<DeclaredTask>, Vec<NotLoaded>), CatalogError> {
    let (mut modules, mut left_out) = (Vec::new(), Vec::new());
    for module in store.catalog().list()? {
        let Some(version) = module.active_version() else {
            continue;
        };
        let name = &module.name;
        match declared(store, name, version, defaults, grants, signatures) {
            Ok(tasks) => modules.push((version.activated_at, name.clone(), tasks)),
            Err(error) => left_out.push(NotLoaded {
                module: name.clone(),
                version: version.number,
                reason: reason(&error),
                refused: error.passing().is_none(),
            }),
        }
    }
    let modules = modules
        .iter()
        .map(|(since, name, tasks)| (*since, name, &tasks[..]));
    let mut tasks = BTreeMap::new();
    for task in in_order_of_claim(modules.collect(), DeclaredTask::has_default_name) {
        tasks.entry(&task.config.name).or_insert(task);
    }
    Ok((tasks.into_values().cloned().collect(), left_out))
}

fn declared(
    store: &Store,
    name: &ModuleName,
    version: &Version,
    defaults: &TaskDefaults,
    grants: &Grants,
    signatures: Option<&SigningPolicy>,
) -> Result<Vec<DeclaredTask>, InstallError> {
    let digest = version.digest;
    // Whoever can write to the store could have changed any of it: tasks that no worker would run are not listed.
    let component = store.get(&digest).map_err(RegistryError::from)?;
    if let Some(policy) = signatures {
        policy.check_version(name, component.bytes(), version)?;
    }
    let schema = store.schema(&digest).map_err(RegistryError::from)?;
    let schema = serde_json::from_slice(&schema);
    let schema: Vec<TaskSchema> =
        schema.map_err(|_| RegistryError::from(StoreError::NoSchema { digest }))?;
    let functions = schema.iter().map(|task| task.function.as_str());
    let configs = configure(name, functions, &version.manifest, defaults, grants)?;
    let tasks = schema.into_iter().zip(configs);
    let task = |(schema, config)| DeclaredTask {
        module: name.clone(),
        version: version.number,
        schema,
        config,
    };
    Ok(tasks.map(task).collect())
}

/// A component's schema, as a store keeps it for [`declared_tasks`].
pub(crate) fn schema(component: &Module) -> Vec<u8> {
    let tasks: Vec<_> = component.tasks().map(Task::schema).collect();
    // Texts and lists of such: it can't fail.
    serde_json::to_vec(&tasks).unwrap_or_default()
}

impl DeclaredTask {
    fn has_default_name(&self) -> bool {
        self.config.name == default_name(&self.module, &self.schema.function)
    }
}
