//! The data of one call's store: the states of all that its guest may import.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole_permits::{Limits, Redactor};
use tokio::sync::watch;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::granted::Granted;
use crate::limits::budget::Budget;
use crate::limits::budget::held::Held;
use crate::limits::limiter::{Limiter, claim};
use crate::limits::meter::Meter;
use crate::log::task_log::TaskLog;
use crate::schema::json_texts::{JsonTexts, lift_fuel};
use crate::task::canvas::{CanvasView, Sent};
use crate::task::context::{Context, ContextView};
use crate::task::progress::{Progress, ProgressState, ProgressView};
use crate::wasi::cli;
use crate::wasi::files::folders::Folders;
use crate::wasi::files::view::{Files, FilesView};
use crate::wasi::keyvalue::{KeyValueState, KeyValueView};
use crate::wasi::net::egress::Egress;
use crate::wasi::net::http;
use crate::wasi::net::network::ModuleNetwork;
use crate::wasi::net::sockets::{Sockets, SocketsView};
use crate::wasi::random::Random;

/// Parts of the host that the sandboxes of a module share.
pub(crate) struct Shared {
    pub(crate) budget: Budget,
    pub(crate) network: ModuleNetwork,
    pub(crate) folders: Arc<Folders>,
}

impl Shared {
    /// The host memory that one value out of a sandbox may take, in bytes, as far as the budget has it. `result`: the
    /// limit of a result.
    pub(crate) fn lift_memory(&self, result: usize) -> usize {
        lift_fuel(result).min(self.budget.result())
    }

    /// The count of the texts of one result, or of all signatures that one task sends.
    pub(crate) fn texts(&self, result: usize) -> JsonTexts {
        JsonTexts::new(result).within(self.budget.result())
    }
}

/// The data of one call's store.
pub(crate) struct Sandbox {
    pub(crate) limiter: Limiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: TaskLog,
    pub(crate) sent: Sent,
    pub(crate) files: Files,
    request: Context,
    limits: Limits,
    granted: Arc<Granted>,
    /// Since the Unix epoch.
    started: Duration,
    progress: ProgressState,
    keyvalue: KeyValueState,
    /// None where the task has no use for it.
    egress: Option<Arc<Egress>>,
    sockets: Sockets,
    http: WasiHttpCtx,
    http_hooks: http::Hooks,
    /// None until the guest calls a function of WASI: to make it is a good part of a small task's time.
    wasi: Option<WasiCtx>,
    resources: ResourceTable,
}

impl Sandbox {
    pub(crate) fn new(
        shared: &Shared,
        request: Context,
        limits: Limits,
        meter: &Arc<Meter>,
        granted: &Arc<Granted>,
        files: Files,
        progress: &watch::Sender<Option<Progress>>,
    ) -> Self {
        let redactor = Redactor::new(granted.secrets.iter().map(|(_, secret)| secret));
        let held = Held::new(&shared.budget, claim(&limits), &meter.waits);
        let egress = Egress::new(&shared.network, granted, meter, &request.id);
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(limits.handles);
        Self {
            limiter: Limiter::new(&limits, held),
            meter: Arc::clone(meter),
            log: TaskLog::new(&request.id, limits.log, redactor),
            sent: Sent::new(shared.texts(limits.result)),
            files,
            request,
            limits,
            granted: Arc::clone(granted),
            // a clock before 1970 would only make the guest's deadlines wrong
            started: started.unwrap_or_default(),
            progress: ProgressState::new(progress.clone()),
            keyvalue: KeyValueState::default(),
            sockets: Sockets::default(),
            http: http::context(),
            http_hooks: http::Hooks {
                egress: egress.clone(),
            },
            egress,
            wasi: None,
            resources,
        }
    }
}

/// Views for host functions. Each call of an imported function has its data from here, and is counted here:
/// wasmtime has no hook for the calls of components.
impl Sandbox {
    pub(crate) fn context(&mut self) -> ContextView<'_> {
        self.meter.counts.host_call();
        ContextView {
            request: &self.request,
            limits: &self.limits,
            started: self.started,
            meter: &self.meter,
        }
    }

    pub(crate) fn log(&mut self) -> &mut TaskLog {
        self.meter.counts.host_call();
        &mut self.log
    }

    pub(crate) fn progress(&mut self) -> ProgressView<'_> {
        self.meter.counts.host_call();
        ProgressView {
            state: &mut self.progress,
            held: &mut self.limiter.held,
            result: self.limits.result,
        }
    }

    pub(crate) fn canvas(&mut self) -> CanvasView<'_> {
        self.meter.counts.host_call();
        CanvasView {
            request: &self.request,
            limits: &self.limits,
            sent: &mut self.sent,
            held: &mut self.limiter.held,
        }
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
        self.meter.counts.host_call();
        self.files.view(&mut self.resources)
    }

    pub(crate) fn keyvalue(&mut self) -> KeyValueView<'_> {
        self.meter.counts.host_call();
        KeyValueView {
            space: self.granted.keyvalue.as_ref(),
            state: &mut self.keyvalue,
            meter: &self.meter,
            table: &mut self.resources,
        }
    }

    pub(crate) fn sockets(&mut self) -> SocketsView<'_> {
        self.meter.counts.host_call();
        SocketsView {
            wasi: WasiSocketsCtxView {
                ctx: cli::context(
                    &mut self.wasi,
                    &self.log,
                    &self.granted,
                    &self.request.id,
                    self.started,
                )
                .sockets(),
                table: &mut self.resources,
            },
            state: &mut self.sockets,
            egress: self.egress.as_ref(),
            meter: &self.meter,
            task_id: &self.request.id,
        }
    }

    /// Counts no call: what is counted on it is part of one.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.meter.counts.host_call();
        WasiHttpCtxView {
            hooks: &mut self.http_hooks,
            table: &mut self.resources,
            ctx: &mut self.http,
        }
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.meter.counts.host_call();
        WasiCtxView {
            ctx: cli::context(
                &mut self.wasi,
                &self.log,
                &self.granted,
                &self.request.id,
                self.started,
            ),
            table: &mut self.resources,
        }
    }
}
