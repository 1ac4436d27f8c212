//! What a guest may import from Petiole: `petiole:task`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole_celery::{ChildKind, Signature, State, child_id};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::Level;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::petiole::task as wit;
use crate::limiter::Limiter;
use crate::task_log::TaskLog;
use crate::{Context, Limits, Progress};

/// WASI resources that a guest may hold at once.
const MAX_RESOURCES: usize = 10_000;

/// The length of a state's name, in bytes.
const MAX_STATE_NAME: usize = 64;

/// What one call has: the data of its store.
pub(crate) struct Sandbox {
    pub(crate) limiter: Limiter,
    pub(crate) log: TaskLog,
    pub(crate) sent: Vec<Signature>,
    context: Context,
    limits: Limits,
    /// Since the Unix epoch.
    started: Duration,
    progress: watch::Sender<Option<Progress>>,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl Sandbox {
    pub(crate) fn new(
        context: Context,
        limits: Limits,
        progress: &watch::Sender<Option<Progress>>,
    ) -> Self {
        let log = TaskLog::new(&context.id, limits.log);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_RESOURCES);
        Self {
            limiter: Limiter::new(limits.memory),
            wasi: crate::wasi::context(&log),
            log,
            sent: Vec::new(),
            context,
            limits,
            // a clock before 1970 would only make the guest's deadlines wrong
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            progress: progress.clone(),
            resources,
        }
    }

    /// Milliseconds since the Unix epoch.
    fn after(&self, duration: Duration) -> u64 {
        u64::try_from(self.started.saturating_add(duration).as_millis()).unwrap_or(u64::MAX)
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// Everything that any task may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wit::context::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    wit::log::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    wit::progress::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    wit::canvas::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    Ok(linker)
}

impl wit::context::Host for Sandbox {
    fn get_request(&mut self) -> wit::context::Request {
        let Context {
            id,
            task,
            retries,
            root_id,
            parent_id,
            group_id,
            group_index,
            headers,
        } = &self.context;
        wit::context::Request {
            id: id.clone(),
            task: task.clone(),
            retries: *retries,
            root_id: root_id.clone(),
            parent_id: parent_id.clone(),
            group_id: group_id.clone(),
            group_index: *group_index,
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
            deadline_ms: self.after(self.limits.time),
            soft_deadline_ms: self.limits.soft_time.map(|soft| self.after(soft)),
            idempotency_key: format!("{id}:{retries}"),
        }
    }
}

impl wit::log::Host for Sandbox {
    fn log(&mut self, level: wit::log::Level, message: String) {
        let level = match level {
            wit::log::Level::Trace => Level::TRACE,
            wit::log::Level::Debug => Level::DEBUG,
            wit::log::Level::Info => Level::INFO,
            wit::log::Level::Warn => Level::WARN,
            wit::log::Level::Error => Level::ERROR,
        };
        self.log.line(level, &message);
    }
}

impl wit::progress::Host for Sandbox {
    fn update_state(&mut self, state: String, meta: String) -> Result<(), String> {
        within("meta", meta.len(), self.limits.result)?;
        let meta = json("meta", &meta)?;
        self.progress.send_replace(Some(Progress {
            state: custom_state(state)?,
            meta,
        }));
        Ok(())
    }
}

impl wit::canvas::Host for Sandbox {
    fn send(&mut self, signature: wit::canvas::Signature) -> Result<String, String> {
        if self.sent.len() >= self.limits.children {
            return Err(format!(
                "a task may send {} others at most",
                self.limits.children
            ));
        }
        let signature = self.signature(signature)?;
        let Some(Value::String(id)) = signature.options.get("task_id") else {
            return Err("option task_id is not a string".to_owned());
        };
        let id = id.clone();
        self.sent.push(signature);
        Ok(id)
    }
}

impl Sandbox {
    /// The signature with its id in `options.task_id`: its own, or one made of this task's.
    fn signature(&self, from: wit::canvas::Signature) -> Result<Signature, String> {
        let size = from
            .args
            .len()
            .saturating_add(from.kwargs.len())
            .saturating_add(from.options.len());
        within("signature", size, self.limits.result)?;
        if from.task.is_empty() {
            return Err("the signature names no task".to_owned());
        }
        let Value::Array(args) = json("args", &from.args)? else {
            return Err("args is not a JSON array".to_owned());
        };
        let kwargs = object("kwargs", &from.kwargs)?;
        let mut options = object("options", &from.options)?;
        if options.get("task_id").is_none_or(Value::is_null) {
            let Context { id, retries, .. } = &self.context;
            options.insert(
                "task_id".to_owned(),
                child_id(id, *retries, ChildKind::Sent, self.sent.len()).into(),
            );
        }
        Ok(Signature {
            task: from.task,
            args,
            kwargs,
            options,
            subtask_type: None,
            immutable: from.immutable,
        })
    }
}

fn json(name: &str, text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{name} is not JSON: {error}"))
}

fn object(name: &str, text: &str) -> Result<Map<String, Value>, String> {
    match json(name, text)? {
        Value::Object(object) => Ok(object),
        _ => Err(format!("{name} is not a JSON object")),
    }
}

fn within(name: &str, size: usize, limit: usize) -> Result<(), String> {
    if size <= limit {
        Ok(())
    } else {
        Err(format!(
            "{name} of {size} bytes is larger than the limit of {limit}"
        ))
    }
}

/// A state that a task may give itself.
fn custom_state(name: String) -> Result<State, String> {
    let is_name = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    match name.as_str() {
        "STARTED" => Ok(State::Started),
        "PENDING" | "RECEIVED" | "RETRY" | "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED"
        | "IGNORED" => Err(format!("state {name} is set by the worker")),
        _ if name.is_empty() || name.len() > MAX_STATE_NAME || !name.bytes().all(is_name) => Err(
            format!("a state is 1 to {MAX_STATE_NAME} characters of A-Z, 0-9, _ and -"),
        ),
        _ => Ok(State::Custom(name)),
    }
}
