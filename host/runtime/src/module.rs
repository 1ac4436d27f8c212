//! A loaded component and its tasks.

use std::sync::Arc;

use petiole_permits::Limits;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::call;
use crate::granted::Granted;
use crate::loaded::{Function, Loaded};
use crate::run::{HostFault, Run};
use crate::schema::bind::{ArgumentError, Arguments, bind};
use crate::schema::reflect::RefusedExport;
use crate::schema::task_schema::TaskSchema;
use crate::task::context::Context;
use crate::task::progress::Progress;

/// A component whose exports can be called. A clone is the same module.
#[derive(Debug, Clone)]
pub struct Module {
    name: Arc<str>,
    /// In the order of their names.
    tasks: Arc<[Task]>,
    refused: Arc<[RefusedExport]>,
}

/// An exported function. It keeps its module loaded, so that a running task ends on the version it
/// began with.
#[derive(Debug, Clone)]
pub struct Task {
    loaded: Arc<Loaded>,
    function: Arc<Function>,
}

impl Module {
    /// `tasks`: in the order of their names.
    pub(crate) fn new(name: &str, tasks: Arc<[Task]>, refused: Vec<RefusedExport>) -> Self {
        Self {
            name: name.into(),
            tasks,
            refused: refused.into(),
        }
    }

    /// The prefix of its tasks' names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tasks, in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// The functions that they are, in the same order.
    pub fn functions(&self) -> impl Iterator<Item = &str> + Clone {
        let tasks = self.tasks.iter();
        tasks.map(|task| task.schema().function.as_str())
    }

    /// The task of the exported function `function`, in snake_case.
    pub fn task(&self, function: &str) -> Option<&Task> {
        let index = self
            .tasks
            .binary_search_by(|task| task.schema().function.as_str().cmp(function));
        self.tasks.get(index.ok()?)
    }

    /// The exported functions that are no tasks.
    pub fn refused(&self) -> &[RefusedExport] {
        &self.refused
    }
}

impl Task {
    pub(crate) fn new(loaded: &Arc<Loaded>, function: Function) -> Self {
        Self {
            loaded: Arc::clone(loaded),
            function: Arc::new(function),
        }
    }

    /// Its parameters, its result and its documentation.
    pub fn schema(&self) -> &TaskSchema {
        &self.function.schema
    }

    /// Checks arguments against the task's parameters, before any guest code runs. Positional
    /// arguments and keyword arguments go together as in Python; parameters of a trailing run of
    /// `option` may be left out. `limit`: the size of their JSON, in bytes ([`Limits::arguments`]); what is made of them
    /// takes memory in proportion to it.
    ///
    /// # Errors
    /// When they do not fit: the message names the task, the parameter, its type and the value.
    pub fn bind(
        &self,
        args: &[Value],
        kwargs: &Map<String, Value>,
        limit: usize,
    ) -> Result<Arguments, ArgumentError> {
        let Function { ty, schema, .. } = &*self.function;
        bind(&schema.name, ty, args, kwargs, limit)
    }

    /// Calls the function in a sandbox of its own, which is gone when this returns. Must run in a
    /// tokio runtime with its timer on.
    ///
    /// # Errors
    /// [`HostFault`] where the host could not run it. Whatever the guest does is an outcome.
    pub async fn call(
        &self,
        arguments: Arguments,
        context: Context,
        limits: Limits,
        granted: &Arc<Granted>,
        progress: &watch::Sender<Option<Progress>>,
    ) -> Result<Run, HostFault> {
        let (loaded, function) = (&self.loaded, &self.function);
        call::call(
            loaded, function, arguments, context, limits, granted, progress,
        )
        .await
    }
}
