//! The documents of the API: what it answers with, and what its clients read.

use petiole_modules::{Module, ModuleName, ModuleState, VersionNumber, WorkerState};
use petiole_permits::{Capabilities, LIMITS, Limits};
use petiole_runtime::{Param, TaskSchema};
use petiole_worker::{DeclaredTask, Installed, RegisteredTask, TaskConfig, TaskGrants};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The longest that an upload waits for the workers, in seconds.
pub const MAX_WAIT: u64 = 120;

/// A task that can be called.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskDocument {
    /// The name that Celery calls it by.
    pub name: String,
    /// Its module.
    pub module: String,
    /// The module's version.
    pub version: u32,
    /// As a person reads it: `my_app.tasks.add(x: s64, y: s64) -> s64`.
    pub signature: String,
    /// In their order.
    pub params: Vec<ParamDocument>,
    /// Its result as a WIT type.
    pub result: Option<String>,
    /// Its failure as a WIT type.
    pub error: Option<String>,
    /// From the guest's source.
    pub docs: String,
    /// Its reach beyond the sandbox.
    pub capabilities: CapabilitiesDocument,
    /// The limits of a call.
    pub limits: LimitsDocument,
}

/// The reach of a task beyond its sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub struct CapabilitiesDocument {
    /// By its manifest.
    pub asked: Capabilities,
    /// The part that it is given.
    pub granted: Capabilities,
    /// The rest, each as a person reads it: `http GET https://x.example.com`.
    pub refused: Vec<String>,
}

/// The limits of one call of a task, by the names of `[limits]`. Times are in seconds, sizes in bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitsDocument(pub Map<String, Value>);

/// A task's parameter.
#[derive(Debug, Serialize, Deserialize)]
pub struct ParamDocument {
    /// The name of the keyword argument.
    pub name: String,
    /// Its WIT type.
    #[serde(rename = "type")]
    pub ty: String,
    /// It may be left out.
    pub optional: bool,
}

/// The answer to an upload.
#[derive(Debug, Serialize, Deserialize)]
pub struct InstalledDocument {
    /// The module.
    pub module: String,
    /// Its new version.
    pub version: u32,
    /// The component's sha256.
    pub digest: String,
    /// The key of its signature, where the worker looks at signatures.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// The tasks that now answer.
    pub tasks: Vec<TaskDocument>,
    /// Exports that are no tasks, and why.
    pub refused: Vec<RefusedDocument>,
    /// The workers of the store, and how far they are.
    #[serde(default)]
    pub workers: Vec<WorkerDocument>,
}

/// An export that is no task.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefusedDocument {
    /// The function.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// A module, and how the workers of its store have it, as they say.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModuleDocument {
    /// As the catalog has it.
    #[serde(flatten)]
    pub module: Module,
    /// The workers of the store, and how far they are.
    #[serde(default)]
    pub workers: Vec<WorkerDocument>,
}

/// A module as a worker has it.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerDocument {
    /// Its name.
    pub worker: String,
    /// The version that it has, or why not.
    #[serde(flatten)]
    pub state: ModuleState,
}

impl ModuleDocument {
    /// A module of a store with these workers.
    pub fn new(module: Module, workers: &[WorkerState]) -> Self {
        let workers = WorkerDocument::of(&module.name, workers);
        Self { module, workers }
    }
}

impl WorkerDocument {
    /// A module as each worker has it.
    pub fn of(module: &ModuleName, workers: &[WorkerState]) -> Vec<Self> {
        let of_one = |state: &WorkerState| Self {
            worker: state.worker.clone(),
            state: state.modules.get(module).cloned().unwrap_or_default(),
        };
        workers.iter().map(of_one).collect()
    }
}

/// Names a version.
#[derive(Debug, Serialize, Deserialize)]
pub struct VersionDocument {
    /// Its number.
    pub version: u32,
}

impl From<&RegisteredTask> for TaskDocument {
    fn from(task: &RegisteredTask) -> Self {
        let schema = task.task.schema();
        let (grants, limits) = (&task.grants, &task.limits);
        Self::new(
            &task.name,
            &task.module,
            task.version,
            schema,
            grants,
            limits,
        )
    }
}

impl From<&DeclaredTask> for TaskDocument {
    fn from(task: &DeclaredTask) -> Self {
        let TaskConfig {
            name,
            grants,
            limits,
            ..
        } = &task.config;
        Self::new(
            name,
            &task.module,
            task.version,
            &task.schema,
            grants,
            limits,
        )
    }
}

impl TaskDocument {
    fn new(
        name: &str,
        module: &ModuleName,
        version: VersionNumber,
        schema: &TaskSchema,
        grants: &TaskGrants,
        limits: &Limits,
    ) -> Self {
        let text = schema.to_string();
        // A manifest may have renamed it.
        let signature = match text.strip_prefix(schema.name.as_str()) {
            Some(rest) => format!("{name}{rest}"),
            None => text,
        };
        Self {
            name: name.to_owned(),
            module: module.to_string(),
            version,
            signature,
            params: schema.params.iter().map(ParamDocument::from).collect(),
            result: schema.result.clone(),
            error: schema.error.clone(),
            docs: schema.docs.clone(),
            capabilities: CapabilitiesDocument::from(grants),
            limits: LimitsDocument::from(limits),
        }
    }
}

impl From<&TaskGrants> for CapabilitiesDocument {
    fn from(grants: &TaskGrants) -> Self {
        Self {
            asked: grants.asked.clone(),
            granted: grants.given.clone(),
            refused: grants.refused.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Limits> for LimitsDocument {
    fn from(limits: &Limits) -> Self {
        let amounts = limits.amounts();
        let limits = LIMITS.iter().map(|spec| {
            let amount = amounts.get(spec.name);
            (spec.name.to_owned(), json!(amount))
        });
        Self(limits.collect())
    }
}

impl From<&Param> for ParamDocument {
    fn from(param: &Param) -> Self {
        Self {
            name: param.name.clone(),
            ty: param.ty.clone(),
            optional: param.optional,
        }
    }
}

impl InstalledDocument {
    /// An installed version in a store with these workers.
    pub fn new(installed: &Installed, workers: &[WorkerState]) -> Self {
        let refused = installed.refused.iter();
        Self {
            module: installed.module.to_string(),
            version: installed.version,
            digest: installed.digest.to_string(),
            signed_by: installed.signed_by.map(|key| key.to_string()),
            tasks: installed
                .tasks
                .iter()
                .map(|task| TaskDocument::from(&**task))
                .collect(),
            refused: refused
                .map(|export| RefusedDocument {
                    name: export.name.clone(),
                    reason: export.reason.clone(),
                })
                .collect(),
            workers: WorkerDocument::of(&installed.module, workers),
        }
    }
}
