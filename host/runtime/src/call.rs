//! One call: a fresh sandbox, the guest's function, and what it came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use petiole_celery::{Outcome, Signature, State};
use petiole_permits::{Limit, Limits};
use serde_json::{Map, Value};
use tokio::sync::watch;
use wasmtime::component::{ComponentExportIndex, Resource, Val};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::granted::Granted;
use crate::host::Sandbox;
use crate::limits::budget::held::Held;
use crate::limits::budget::reading::Reading;
use crate::limits::budget::waits::NoMemoryLeft;
use crate::limits::meter::Meter;
use crate::limits::off_the_executor::off_the_executor;
use crate::log::last_words::last_words;
use crate::log::redact::redacted;
use crate::module::{Loaded, Task};
use crate::outcome::Ended;
use crate::outcome::broken::{Broken, ResultUnreadable};
use crate::outcome::returned::returned;
use crate::schema::bind::{ArgumentError, Arguments, bind};
use crate::schema::canonical;
use crate::schema::json_texts::{JsonTexts, lift_fuel};
use crate::schema::signature::{Shape, TaskSignature};
use crate::schema::to_json::holds_long_text;

/// How long a call waits for a slow disk: until its folders are open, where its own time limit is shorter, and
/// until its temporary one is removed. (A limit of some milliseconds must not make a fault of the host, which
/// leaves a delivery unsettled.)
const SLOW_DISK: Duration = Duration::from_secs(5);

/// Writing more memory than this for the first time takes some 10 ms, and giving it back 2 ms, without a pause.
const LARGE_MEMORY: usize = 16 * 1024 * 1024;

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
    /// The limit that ended it.
    pub limit: Option<Limit>,
    /// Whether it takes long to read what it came to.
    pub long: bool,
    /// Of the budget of all tasks, for what is here: keep it as long as that.
    pub memory: RunMemory,
}

/// What a call's values have of the budget of all tasks, until this is dropped.
#[derive(Debug)]
pub struct RunMemory {
    sent: Option<Held>,
    _result: Reading,
}

impl RunMemory {
    /// What the task sent has become messages.
    pub fn is_planned(&mut self) {
        self.sent = None;
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Wall time of instantiate, call and clean-up.
    pub wall: Duration,
    /// Time on a CPU of instantiate and call; not that of host calls on threads for blocking ones.
    pub cpu: Duration,
    /// The largest sum of linear memories, in bytes.
    pub peak_memory: usize,
    /// Calls of imported functions.
    pub host_calls: u64,
    /// Written to log, stdout and stderr, in bytes.
    pub log: usize,
    /// Received over the network and from key-value storage, in bytes.
    pub bytes_in: u64,
    /// Sent over the network and to key-value storage, in bytes.
    pub bytes_out: u64,
    /// Outbound HTTP requests and TCP connections.
    pub requests: u32,
    /// Written to folders, in bytes.
    pub disk: u64,
    /// Signatures sent, with those that are nested in them.
    pub children: usize,
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
    /// Others have the memory that the task may have: it was given up, and is to be run again later.
    #[error("{reason}")]
    NoMemoryLeft {
        /// What there is in all and what it asked for, or how long it has waited.
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
    /// Whether parameters or result hold lists.
    pub(crate) lists: bool,
    /// Whether a call may be long at work without a pause: it has lists, or a call of it has had
    /// [`LARGE_MEMORY`].
    pub(crate) long: AtomicBool,
    /// Whether its type leaves it open how large its result is.
    pub(crate) unbounded: bool,
    pub(crate) signature: TaskSignature,
}

impl Task {
    /// What the task is called with.
    pub fn signature(&self) -> &TaskSignature {
        &self.function().signature
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
        let Function {
            shape, signature, ..
        } = self.function();
        bind(&signature.name, shape, args, kwargs, limit)
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
        let loaded = self.loaded();
        let meter = Arc::new(Meter::new(limits, &context.task, &context.id));
        let opening = limits.time.max(SLOW_DISK);
        let files = loaded.storage.open(granted, &meter, opening).await;
        let files = files.map_err(|error| HostFault::Internal {
            reason: error.to_string(),
        })?;
        let sandbox = Sandbox::new(loaded, context, limits, &meter, granted, files, progress);
        let mut running = Running {
            store: store(loaded, sandbox, limits),
            held: None,
        };
        let store = &mut running.store;
        let mut long = self.function().long.load(Relaxed);
        let mut reading = reading(loaded, self.function(), limits.result, &meter);
        let run = run(loaded, self.function(), store, &arguments);
        let ended = match meter.run(run, long, &mut reading).await {
            Ok(val) => {
                let ty = self.function().shape.result.as_ref();
                long |= val.as_ref().is_some_and(holds_long_text);
                let texts = texts(loaded, limits.result);
                off_the_executor(long, || returned(ty, val, texts))
            }
            Err(error) => broke_off(&error, store, &limits)?,
        };
        reading.keep(ended.memory());
        let mut held = running.take_held();
        let sandbox = running.store.data_mut();
        let memory_of_sent = sandbox.sent_texts.values.taken();
        let mut usage = Usage {
            peak_memory: sandbox.limiter.peak_memory(),
            log: sandbox.log.finish(),
            children: sandbox.children,
            ..Usage::default()
        };
        let sent = std::mem::take(&mut sandbox.sent);
        let temp = sandbox.files.take_temp();
        let large = usage.peak_memory > LARGE_MEMORY;
        if large {
            self.function().long.store(true, Relaxed);
        }
        off_the_executor(large, || drop(running));
        held.keep(memory_of_sent);
        if let Some(temp) = temp {
            temp.remove(SLOW_DISK).await;
        }
        usage.add(&meter);
        Ok(Run {
            outcome: redacted(ended.outcome, granted),
            sent,
            usage,
            limit: ended.limit,
            long: long || usage.children > 0,
            memory: RunMemory {
                sent: Some(held),
                _result: reading,
            },
        })
    }
}

impl Usage {
    /// What the meter has counted.
    fn add(&mut self, meter: &Meter) {
        let (bytes_in, bytes_out) = meter.network();
        *self = Self {
            wall: meter.wall(),
            cpu: meter.cpu(),
            host_calls: meter.host_calls(),
            bytes_in,
            bytes_out,
            requests: meter.requests(),
            disk: meter.disk_written(),
            ..*self
        };
    }
}

/// A run with its sandbox.
struct Running {
    store: Store<Sandbox>,
    held: Option<Held>,
}

impl Running {
    fn take_held(&mut self) -> Held {
        self.store.data_mut().limiter.held.take()
    }
}

/// The system has the memory back before the budget has: fields are dropped in their order.
impl Drop for Running {
    fn drop(&mut self) {
        self.held = Some(self.take_held());
    }
}

fn store(loaded: &Loaded, sandbox: Sandbox, limits: Limits) -> Store<Sandbox> {
    let mut store = Store::new(loaded.engine(), sandbox);
    store.limiter_async(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(lift_memory(loaded, limits.result));
    store.set_max_component_handles(limits.handles);
    // a guest that computes yields at every tick, so that others run and its limits are seen
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        store.data().meter.tick()?;
        let others = Box::pin(tokio::task::yield_now());
        Ok(UpdateDeadline::YieldCustom(1, others))
    });
    store
}

/// The host memory that one value out of a sandbox may take, in bytes, as far as the budget has it.
fn lift_memory(loaded: &Loaded, result: usize) -> usize {
    lift_fuel(result).min(loaded.budget.result())
}

/// The texts of one result, or of all signatures that one task sends.
pub(crate) fn texts(loaded: &Loaded, result: usize) -> JsonTexts {
    JsonTexts::new(result).within(loaded.budget.result())
}

/// What the result is read with: the value, and beside it the JSON that is made of it.
fn reading(loaded: &Loaded, function: &Function, result: usize, meter: &Meter) -> Reading {
    let most = match function.unbounded {
        true => lift_memory(loaded, result).saturating_mul(2),
        false => 0,
    };
    loaded.budget.reading(most, &meter.waits)
}

/// Instantiates and calls; the result is none for a function without one.
async fn run(
    loaded: &Loaded,
    function: &Function,
    store: &mut Store<Sandbox>,
    arguments: &Arguments,
) -> wasmtime::Result<Option<Val>> {
    let values = arguments.memory.min(loaded.budget.values());
    store.data_mut().limiter.held.grow_beyond(values).await?;
    let instance = loaded.instance_pre.instantiate_async(&mut *store).await?;
    let func = instance
        .get_func(&mut *store, function.export)
        .ok_or_else(|| ExportGone(function.signature.name.clone()))?;
    if function.lists {
        return canonical::call(func, store, &arguments.vals)
            .await
            .map_err(ResultUnreadable::or);
    }
    let mut result = [Val::Bool(false)];
    let results = match function.shape.result {
        None => &mut [],
        Some(_) => result.as_mut_slice(),
    };
    func.call_async(store, &arguments.vals, results)
        .await
        .map_err(ResultUnreadable::or)?;
    let [result] = result;
    Ok(function.shape.result.as_ref().map(|_| result))
}

/// # Errors
/// What is not the guest's doing.
fn broke_off(
    error: &wasmtime::Error,
    store: &mut Store<Sandbox>,
    limits: &Limits,
) -> Result<Ended, HostFault> {
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(HostFault::PoolExhausted {
            reason: error.root_cause().to_string(),
        });
    }
    if let Some(none_left) = error.downcast_ref::<NoMemoryLeft>() {
        return Err(HostFault::NoMemoryLeft {
            reason: none_left.to_string(),
        });
    }
    // what fails while the guest runs is an answer to the guest
    let by_host = error.is::<std::io::Error>() && !error.is::<WasmBacktrace>();
    if error.is::<ExportGone>() || by_host {
        return Err(HostFault::Internal {
            reason: format!("{error:#}"),
        });
    }
    let crashed = error.is::<Trap>();
    let broken = Broken {
        error,
        words: crashed
            .then(|| store.data().log.last_of_stderr())
            .and_then(|text| last_words(&text)),
        denied: store.data().limiter.hit(),
        handles_full: handles_full(store),
        limits,
        most: store.data().limiter.held.budget().result(),
    };
    Ok(broken.ended())
}

/// Whether the guest has as many component-model handles as it may. wasmtime's error for one too many has no
/// type, so one more is tried.
fn handles_full(store: &mut Store<Sandbox>) -> bool {
    struct Probe;
    Resource::<Probe>::new_own(0)
        .try_into_resource_any(store)
        .is_err()
}
