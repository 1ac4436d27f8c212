//! One call: a fresh sandbox, the guest's function, and what it came to.

use std::time::{Duration, Instant};

use petiole_celery::{Outcome, Signature, State};
use serde_json::{Map, Value};
use tokio::sync::watch;
use wasmtime::component::{ComponentExportIndex, Val};
use wasmtime::{Store, UpdateDeadline};

use crate::bind::{ArgumentError, Arguments, bind};
use crate::host::Sandbox;
use crate::module::{Loaded, Task};
use crate::outcome;
use crate::signature::{Shape, TaskSignature};

/// The host memory that reading a value out of a sandbox may take, as a multiple of the result's
/// limit: a `list<u8>` has 40 bytes here for each one and a third of JSON.
const LIFT_FACTOR: usize = 32;
/// And what any call may take, so that small limits do not stop host calls.
const LIFT_FLOOR: usize = 1024 * 1024;

/// Component-model handles that a guest may have at once.
const MAX_HANDLES: usize = 10_000;

/// What one call may use. Every field is required: a limit that is an option is one that is forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sum of the linear memories, in bytes.
    pub memory: usize,
    /// Wall time of instantiate, call and clean-up together.
    pub time: Duration,
    /// Wall time after which the guest is told (its context names the time); none for no soft limit.
    pub soft_time: Option<Duration>,
    /// The result's size as JSON, in bytes; also that of one signature it sends and one progress update.
    pub result: usize,
    /// What the task may write to its log, stdout and stderr, in bytes; the rest is dropped and counted.
    pub log: usize,
    /// How many signatures it may send.
    pub children: usize,
}

/// The request as the guest sees it (`petiole:task/context`).
#[derive(Debug, Clone)]
pub struct Context {
    /// The task's id.
    pub id: String,
    /// The task's full name.
    pub task: String,
    /// 0 the first time.
    pub retries: u32,
    /// The first task of the workflow.
    pub root_id: String,
    /// The task that sent this one.
    pub parent_id: Option<String>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// Its place in that group.
    pub group_index: Option<u32>,
    /// The producer's own headers.
    pub headers: Map<String, Value>,
}

/// A state that a task has set for itself (`petiole:task/progress`).
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Always [`State::Custom`] or [`State::Started`].
    pub state: State,
    /// What `AsyncResult.info` returns.
    pub meta: Value,
}

/// What a call came to.
#[derive(Debug)]
pub struct Run {
    /// What became of the task.
    pub outcome: Outcome,
    /// The signatures it sent, with their ids in `options.task_id`.
    pub sent: Vec<Signature>,
    /// What it used.
    pub usage: Usage,
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Wall time of instantiate, call and clean-up.
    pub wall: Duration,
    /// The largest sum of linear memories, in bytes.
    pub peak_memory: usize,
}

/// The worker could not run the task: no fault of the guest, nor of the message. Its delivery stays
/// unsettled.
#[derive(Debug, thiserror::Error)]
pub enum HostFault {
    /// More calls at once than the pool has slots: a bug in the caller.
    #[error("no free sandbox: {reason}")]
    PoolExhausted {
        /// wasmtime's words.
        reason: String,
    },
    /// wasmtime or the operating system failed.
    #[error("the sandbox failed: {reason}")]
    Internal {
        /// The chain of causes.
        reason: String,
    },
}

/// Can't be: the export was found at load.
#[derive(Debug, thiserror::Error)]
#[error("the component no longer exports {0}")]
pub(crate) struct ExportGone(String);

/// An exported function, found once at load.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) export: ComponentExportIndex,
    pub(crate) shape: Shape,
    pub(crate) signature: TaskSignature,
}

impl Task {
    /// What the task is called with.
    pub fn signature(&self) -> &TaskSignature {
        &self.function().signature
    }

    /// Checks arguments against the task's parameters, before any guest code runs. Positional
    /// arguments and keyword arguments go together as in Python; parameters of a trailing run of
    /// `option` may be left out.
    ///
    /// # Errors
    /// When they do not fit: the message names the task, the parameter, its type and the value.
    pub fn bind(
        &self,
        args: &[Value],
        kwargs: &Map<String, Value>,
    ) -> Result<Arguments, ArgumentError> {
        let Function {
            shape, signature, ..
        } = self.function();
        bind(&signature.name, shape, args, kwargs)
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
        progress: &watch::Sender<Option<Progress>>,
    ) -> Result<Run, HostFault> {
        let started = Instant::now();
        let loaded = self.loaded();
        let mut store = store(loaded, Sandbox::new(context, limits, progress), limits);
        let run = run(loaded, self.function(), &mut store, &arguments.0);
        let ended = tokio::time::timeout(limits.time, run).await;

        let outcome = match ended {
            Err(_elapsed) => Ok(outcome::out_of_time(limits.time)),
            Ok(Ok(val)) => Ok(outcome::returned(
                self.function().shape.result.as_ref(),
                val,
                limits.result,
            )),
            Ok(Err(error)) => outcome::broke_off(&error, store.data().limiter.hit()),
        };
        let peak_memory = store.data().limiter.peak_memory();
        let sent = std::mem::take(&mut store.data_mut().sent);
        store.data().log.finish();
        drop(store);
        Ok(Run {
            outcome: outcome?,
            sent,
            usage: Usage {
                wall: started.elapsed(),
                peak_memory,
            },
        })
    }
}

fn store(loaded: &Loaded, sandbox: Sandbox, limits: Limits) -> Store<Sandbox> {
    let mut store = Store::new(loaded.engine(), sandbox);
    store.limiter(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(
        limits
            .result
            .saturating_mul(LIFT_FACTOR)
            .saturating_add(LIFT_FLOOR),
    );
    store.set_max_component_handles(MAX_HANDLES);
    // a guest that computes yields at every tick, so that others run and the time limit is seen
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| {
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
    store
}

/// Instantiates and calls; the result is none for a function without one.
async fn run(
    loaded: &Loaded,
    function: &Function,
    store: &mut Store<Sandbox>,
    arguments: &[Val],
) -> wasmtime::Result<Option<Val>> {
    let instance = loaded.instance_pre.instantiate_async(&mut *store).await?;
    let func = instance
        .get_func(&mut *store, function.export)
        .ok_or_else(|| ExportGone(function.signature.name.clone()))?;
    match function.shape.result {
        None => func
            .call_async(store, arguments, &mut [])
            .await
            .map(|()| None),
        Some(_) => {
            let mut result = [Val::Bool(false)];
            func.call_async(store, arguments, &mut result).await?;
            let [result] = result;
            Ok(Some(result))
        }
    }
}
