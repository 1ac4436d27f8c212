//! One call, in a sandbox of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use petiole_celery::Signature;
use petiole_permits::Limits;
use tokio::sync::watch;
use wasmtime::component::{Resource, Val};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::granted::Granted;
use crate::limits::budget::held::Held;
use crate::limits::budget::reading::Reading;
use crate::limits::budget::waits::NoMemoryLeft;
use crate::limits::meter::Meter;
use crate::limits::off_the_executor::off_the_executor;
use crate::loaded::{Function, Loaded};
use crate::log::last_words::last_words;
use crate::log::redact::redacted;
use crate::outcome::Ended;
use crate::outcome::broken::{Broken, ResultUnreadable};
use crate::outcome::returned::returned;
use crate::run::{HostFault, Run, RunMemory, Usage};
use crate::sandbox::{Sandbox, Shared};
use crate::schema::bind::Arguments;
use crate::schema::canonical;
use crate::schema::to_json::holds_long_text;
use crate::task::context::Context;
use crate::task::progress::Progress;

/// The time that a call waits for a slow disk: until its folders are open, where its own time limit is shorter, and
/// until its temporary one is removed. (A limit of some milliseconds must not make a fault of the host, which
/// leaves a delivery unsettled.)
const SLOW_DISK: Duration = Duration::from_secs(5);

/// Writing more memory than this for the first time takes some 10 ms, and giving it back 2 ms, without a pause.
const LARGE_MEMORY: usize = 16 * 1024 * 1024;

/// Can't be: the export was found at load.
#[derive(Debug, thiserror::Error)]
#[error("the component no longer exports {0}")]
pub(crate) struct ExportGone(String);

/// Calls the function in a sandbox of its own, which is gone when this returns.
///
/// # Errors
/// [`HostFault`] where the host could not run it. Whatever the guest does is an outcome.
pub(crate) async fn call(
    loaded: &Loaded,
    function: &Function,
    arguments: Arguments,
    request: Context,
    limits: Limits,
    granted: &Arc<Granted>,
    progress: &watch::Sender<Option<Progress>>,
) -> Result<Run, HostFault> {
    let shared = &loaded.shared;
    let meter = Arc::new(Meter::new(limits, &request.task, &request.id));
    let opening = limits.time.max(SLOW_DISK);
    let files = shared.folders.open(granted, &meter, opening).await;
    let files = files.map_err(|error| HostFault::Internal {
        reason: error.to_string(),
    })?;
    let sandbox = Sandbox::new(shared, request, limits, &meter, granted, files, progress);
    let mut running = Running {
        store: store(loaded, sandbox, limits),
        held: None,
    };
    let store = &mut running.store;
    let mut long = function.long.load(Relaxed);
    let mut reading = reading(shared, function, limits.result, &meter);
    let run = run(loaded, function, store, &arguments);
    let ended = match meter.run(run, long, &mut reading).await {
        Ok(val) => {
            let ty = function.ty.result.as_ref();
            long |= val.as_ref().is_some_and(holds_long_text);
            let texts = shared.texts(limits.result);
            off_the_executor(long, || returned(ty, val, texts))
        }
        Err(error) => broke_off(&error, store, &limits)?,
    };
    reading.keep(ended.memory());
    let Closed {
        sent,
        mut usage,
        held,
    } = running.close(function).await;
    usage.add(&meter);
    Ok(Run {
        outcome: redacted(ended.outcome, granted),
        sent,
        usage,
        limit: ended.limit,
        long: long || usage.children > 0,
        memory: RunMemory::new(held, reading),
    })
}

/// A run with its sandbox.
struct Running {
    store: Store<Sandbox>,
    held: Option<Held>,
}

/// A run whose sandbox is gone.
struct Closed {
    sent: Vec<Signature>,
    usage: Usage,
    /// For the signatures.
    held: Held,
}

impl Running {
    /// Removes the sandbox, and the run's temporary folder.
    async fn close(mut self, function: &Function) -> Closed {
        let mut held = self.take_held();
        let sandbox = self.store.data_mut();
        let memory_of_sent = sandbox.sent.texts.values.taken();
        let usage = Usage {
            peak_memory: sandbox.limiter.peak_memory(),
            log: sandbox.log.finish(),
            children: sandbox.sent.children,
            ..Usage::default()
        };
        let sent = std::mem::take(&mut sandbox.sent.signatures);
        let temp = sandbox.files.take_temp();
        let large = usage.peak_memory > LARGE_MEMORY;
        if large {
            function.long.store(true, Relaxed);
        }
        off_the_executor(large, || drop(self));
        held.keep(memory_of_sent);
        if let Some(temp) = temp {
            temp.remove(SLOW_DISK).await;
        }
        Closed { sent, usage, held }
    }

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
    store.set_hostcall_fuel(loaded.shared.lift_memory(limits.result));
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

/// Memory that the result is read with: for the value, and beside it the JSON that is made of it.
fn reading(shared: &Shared, function: &Function, result: usize, meter: &Meter) -> Reading {
    let most = match function.unbounded {
        true => shared.lift_memory(result).saturating_mul(2),
        false => 0,
    };
    shared.budget.reading(most, &meter.waits)
}

/// Instantiates and calls; the result is none for a function without one.
async fn run(
    loaded: &Loaded,
    function: &Function,
    store: &mut Store<Sandbox>,
    arguments: &Arguments,
) -> wasmtime::Result<Option<Val>> {
    let values = arguments.memory.min(loaded.shared.budget.values());
    store.data_mut().limiter.held.grow_beyond(values).await?;
    let instance = loaded.instance_pre.instantiate_async(&mut *store).await?;
    let func = instance
        .get_func(&mut *store, function.export)
        .ok_or_else(|| ExportGone(function.schema.name.clone()))?;
    if function.lists {
        return canonical::call(func, store, &arguments.vals)
            .await
            .map_err(ResultUnreadable::or);
    }
    let mut result = [Val::Bool(false)];
    let results = match function.ty.result {
        None => &mut [],
        Some(_) => result.as_mut_slice(),
    };
    func.call_async(store, &arguments.vals, results)
        .await
        .map_err(ResultUnreadable::or)?;
    let [result] = result;
    Ok(function.ty.result.as_ref().map(|_| result))
}

/// # Errors
/// Where it is not the guest's doing.
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
    // an error while the guest runs is an answer to the guest
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

/// True if the guest has as many component-model handles as it may. wasmtime's error for one too many has no
/// type, so one more is tried.
fn handles_full(store: &mut Store<Sandbox>) -> bool {
    struct Probe;
    Resource::<Probe>::new_own(0)
        .try_into_resource_any(store)
        .is_err()
}
