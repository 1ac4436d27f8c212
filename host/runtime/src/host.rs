//! What a guest may import from Petiole: `petiole:task`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole_celery::{ChildKind, Signature, State, child_id, json};
use petiole_permits::{Limit, Limits, Redactor};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::Level;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::petiole::task as wit;
use crate::call;
use crate::granted::Granted;
use crate::limits::LimitExceeded;
use crate::limits::budget::held::Held;
use crate::limits::limiter::{Limiter, claim};
use crate::limits::meter::Meter;
use crate::limits::off_the_executor::{is_long, off_the_executor};
use crate::log::task_log::TaskLog;
use crate::module::Loaded;
use crate::schema::json_texts::{self, JsonTexts, MAX_DEPTH, is_too_deep};
use crate::wasi::files::{Files, FilesView};
use crate::wasi::keyvalue::{KeyValueState, KeyValueView};
use crate::wasi::net::egress::Egress;
use crate::wasi::net::sockets::Sockets;
use crate::wasi::net::{http, sockets};
use crate::wasi::random::Random;
use crate::wasi::{cli, files, keyvalue, random};
use crate::{Context, Progress};

/// The length of a state's name, in bytes.
const MAX_STATE_NAME: usize = 64;
/// The size of what a state tells, in bytes: it is read and stored again and again, and a value takes up to
/// 150 times its JSON text here.
const MAX_STATE_META: usize = 256 * 1024;

/// What one call has: the data of its store.
pub(crate) struct Sandbox {
    pub(crate) limiter: Limiter,
    pub(crate) log: TaskLog,
    pub(crate) sent: Vec<Signature>,
    /// What may come of them: themselves, and the signatures that are nested in them.
    pub(crate) children: usize,
    /// The texts of the signatures in `sent`.
    pub(crate) sent_texts: JsonTexts,
    pub(crate) meter: Arc<Meter>,
    /// None where the task has no use for it.
    pub(crate) egress: Option<Arc<Egress>>,
    pub(crate) network: Sockets,
    pub(crate) files: Files,
    keyvalue: KeyValueState,
    granted: Arc<Granted>,
    context: Context,
    limits: Limits,
    /// Since the Unix epoch.
    started: Duration,
    progress: watch::Sender<Option<Progress>>,
    /// Held for what it tells, in bytes.
    progress_memory: usize,
    /// None until the guest calls a function of WASI: to make it is a good part of a small task's time.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    http_hooks: http::Hooks,
    resources: ResourceTable,
}

impl Sandbox {
    pub(crate) fn new(
        loaded: &Loaded,
        context: Context,
        limits: Limits,
        meter: &Arc<Meter>,
        granted: &Arc<Granted>,
        files: Files,
        progress: &watch::Sender<Option<Progress>>,
    ) -> Self {
        let redactor = Redactor::new(granted.secrets.iter().map(|(_, secret)| secret));
        let log = TaskLog::new(&context.id, limits.log, redactor);
        let egress = Egress::new(loaded, granted, meter, &context.id);
        // a clock before 1970 would only make the guest's deadlines wrong
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(limits.handles);
        Self {
            limiter: Limiter::new(
                &limits,
                Held::new(&loaded.budget, claim(&limits), &meter.waits),
            ),
            wasi: None,
            log,
            sent: Vec::new(),
            children: 0,
            sent_texts: call::texts(loaded, limits.result),
            meter: Arc::clone(meter),
            context,
            limits,
            started,
            http: http::context(),
            http_hooks: http::Hooks {
                egress: egress.clone(),
            },
            egress,
            network: Sockets::default(),
            files,
            keyvalue: KeyValueState::default(),
            granted: Arc::clone(granted),
            progress: progress.clone(),
            progress_memory: 0,
            resources,
        }
    }

    pub(crate) fn task_id(&self) -> &str {
        &self.context.id
    }

    /// Milliseconds since the Unix epoch.
    fn after(&self, duration: Duration) -> u64 {
        u64::try_from(self.started.saturating_add(duration).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Sandbox {
    /// The data of a host function of Petiole's own. Every call of an imported function gets its data here
    /// or by [`WasiView::ctx`], and is counted there: wasmtime has no hook for the calls of components.
    pub(crate) fn called(&mut self) -> &mut Self {
        self.meter.host_call();
        self
    }

    pub(crate) fn random(&mut self) -> Random<'_> {
        let meter = Arc::clone(&self.meter);
        let WasiCtxView { ctx, .. } = self.ctx();
        Random {
            numbers: ctx.random(),
            meter,
        }
    }

    pub(crate) fn files(&mut self) -> FilesView<'_> {
        self.meter.host_call();
        self.files.view(&mut self.resources)
    }

    pub(crate) fn keyvalue(&mut self) -> KeyValueView<'_> {
        self.meter.host_call();
        KeyValueView {
            space: self.granted.keyvalue.as_ref(),
            state: &mut self.keyvalue,
            meter: &self.meter,
            table: &mut self.resources,
        }
    }
}

impl Sandbox {
    /// Counts an outbound request or connection before it is made.
    pub(crate) fn spend_request(&self) -> Result<(), LimitExceeded> {
        self.meter.request()
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.meter.host_call();
        WasiHttpCtxView {
            hooks: &mut self.http_hooks,
            table: &mut self.resources,
            ctx: &mut self.http,
        }
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.meter.host_call();
        let Self {
            log,
            granted,
            context,
            started,
            ..
        } = self;
        let made = || cli::context(log, granted, &context.id, *started);
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(made),
            table: &mut self.resources,
        }
    }
}

/// Everything that any task may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    random::add_to_linker(&mut linker)?;
    sockets::add_to_linker(&mut linker)?;
    http::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    keyvalue::add_to_linker(&mut linker)?;
    wit::context::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, Sandbox::called)?;
    wit::log::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, Sandbox::called)?;
    wit::progress::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, Sandbox::called)?;
    wit::canvas::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, Sandbox::called)?;
    Ok(linker)
}

impl wit::context::Host for Sandbox {
    fn get_request(&mut self) -> wasmtime::Result<wit::context::Request> {
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
        Ok(wit::context::Request {
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
        })
    }

    fn soft_limit_reached(&mut self) -> wasmtime::Result<bool> {
        Ok(self.meter.soft_limit_reached())
    }
}

impl wit::log::Host for Sandbox {
    fn log(&mut self, level: wit::log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::log::Level::Trace => Level::TRACE,
            wit::log::Level::Debug => Level::DEBUG,
            wit::log::Level::Info => Level::INFO,
            wit::log::Level::Warn => Level::WARN,
            wit::log::Level::Error => Level::ERROR,
        };
        let logged = off_the_executor(is_long(message.len()), || self.log.line(level, &message));
        Ok(logged?)
    }
}

impl wit::progress::Host for Sandbox {
    async fn update_state(
        &mut self,
        state: String,
        meta: String,
    ) -> wasmtime::Result<Result<(), String>> {
        let limit = self.limits.result.min(MAX_STATE_META);
        if meta.len() <= limit {
            // the last one may still be on its way to the store
            let more = (2 * json_texts::memory(&meta)).saturating_sub(self.progress_memory);
            self.limiter.held.grow_beyond(more).await?;
            self.progress_memory = self.progress_memory.saturating_add(more);
        }
        let progress = off_the_executor(is_long(meta.len()), || progress(state, &meta, limit));
        Ok(progress.map(|progress| {
            self.progress.send_replace(Some(progress));
        }))
    }
}

impl wit::canvas::Host for Sandbox {
    async fn send(
        &mut self,
        signature: wit::canvas::Signature,
    ) -> wasmtime::Result<Result<String, String>> {
        let texts = [
            &signature.task,
            &signature.args,
            &signature.kwargs,
            &signature.options,
        ];
        let size = texts.map(String::len).into_iter().sum();
        if let Err(too_large) = within("signature", size, self.limits.result) {
            return Ok(Err(too_large));
        }
        let before = self.sent_texts.values.taken();
        off_the_executor(is_long(size), || self.spend_texts(texts))?;
        let more = self.sent_texts.values.taken().saturating_sub(before);
        self.limiter.held.grow_beyond(more).await?;
        let read = off_the_executor(is_long(size), || {
            let (id, signature) = self.signature(signature)?;
            Ok((id, signature.tasks(), signature))
        });
        let (id, tasks, signature) = match read {
            Ok(read) => read,
            Err(misfit) => return Ok(Err(misfit)),
        };
        self.spend_children(tasks)?;
        self.sent.push(signature);
        Ok(Ok(id))
    }
}

impl Sandbox {
    /// Counts the texts of a signature: the worker keeps the values of all of them until the task ends, so that
    /// together they may be as large as a result.
    fn spend_texts(&mut self, texts: [&String; 4]) -> Result<(), LimitExceeded> {
        let mut added = Ok(());
        for text in texts {
            added = self.sent_texts.add(text);
        }
        added.map_err(|asked| LimitExceeded::new(Limit::Result, self.limits.result, asked))
    }

    /// Counts what may come of a signature before it is sent.
    fn spend_children(&mut self, tasks: usize) -> Result<(), LimitExceeded> {
        let Limits {
            children,
            descendants,
            depth,
            ..
        } = self.limits;
        let asked = self.children.saturating_add(tasks);
        if depth == 0 {
            return Err(LimitExceeded::new(Limit::Depth, 0, 1));
        }
        if asked > children {
            return Err(LimitExceeded::new(Limit::Children, children, asked));
        }
        if asked > descendants {
            return Err(LimitExceeded::new(Limit::Descendants, descendants, asked));
        }
        self.children = asked;
        Ok(())
    }
}

impl Sandbox {
    /// The signature with its id, which is in `options.task_id`: made of this task's. A guest chooses none: under
    /// another task's id it would overwrite that one's result.
    fn signature(&self, from: wit::canvas::Signature) -> Result<(String, Signature), String> {
        if from.task.is_empty() {
            return Err("the signature names no task".to_owned());
        }
        let Value::Array(args) = parsed("args", &from.args)? else {
            return Err("args is not a JSON array".to_owned());
        };
        let kwargs = object("kwargs", &from.kwargs)?;
        let mut options = object("options", &from.options)?;
        if options.get("task_id").is_some_and(|id| !id.is_null()) {
            return Err(
                "option task_id is the worker's to choose: leave it out, `send` returns it"
                    .to_owned(),
            );
        }
        let Context { id, retries, .. } = &self.context;
        let id = child_id(id, *retries, ChildKind::Sent, self.sent.len());
        options.insert("task_id".to_owned(), id.clone().into());
        let signature = Signature {
            task: from.task,
            args,
            kwargs,
            options,
            subtask_type: None,
            immutable: from.immutable,
        };
        Ok((id, signature))
    }
}

/// `limit`: the size of `meta`, in bytes.
fn progress(state: String, meta: &str, limit: usize) -> Result<Progress, String> {
    within("meta", meta.len(), limit)?;
    let meta = parsed("meta", meta)?;
    Ok(Progress {
        state: custom_state(state)?,
        meta,
    })
}

fn parsed(name: &str, text: &str) -> Result<Value, String> {
    let value = json::parse(text.as_bytes());
    let value = value.map_err(|error| format!("{name} is not JSON: {error}"))?;
    if is_too_deep(&value) {
        return Err(format!(
            "{name} has more than {MAX_DEPTH} levels of arrays and objects"
        ));
    }
    Ok(value)
}

fn object(name: &str, text: &str) -> Result<Map<String, Value>, String> {
    match parsed(name, text)? {
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
