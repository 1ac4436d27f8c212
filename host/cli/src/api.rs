//! The documents of a worker's HTTP API, and its client.

use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use petiole_modules::{Module, ModuleName, ModuleState, WorkerState};
use petiole_permits::{Capabilities, LIMITS, Limits};
use petiole_worker::{Installed, RegisteredTask, TaskGrants};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::tls::TlsConfig;
use url::Url;

use crate::config::is_loopback;
use crate::exit::{Failure, Result};

/// Header of an upload: the manifest's TOML as base64.
pub(crate) const MANIFEST_HEADER: &str = "x-petiole-manifest";

/// The longest that an upload waits for the workers, in seconds.
pub(crate) const MAX_WAIT: u64 = 120;

/// Header of an upload: the signature, in minisign's format, as base64.
pub(crate) const SIGNATURE_HEADER: &str = "x-petiole-signature";

/// What is pushed.
#[derive(Debug)]
pub(crate) struct Push {
    /// The module's name.
    pub name: String,
    pub component: Vec<u8>,
    /// In TOML; empty for none.
    pub manifest: String,
    /// In minisign's format.
    pub signature: Option<String>,
    /// How long to wait for the workers to have it.
    pub wait: Duration,
}

/// A task that can be called.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskDocument {
    pub name: String,
    pub module: String,
    pub version: u32,
    /// As a person reads it: `my_app.tasks.add(x: s64, y: s64) -> s64`.
    pub signature: String,
    pub params: Vec<ParamDocument>,
    pub result: Option<String>,
    pub error: Option<String>,
    pub docs: String,
    pub capabilities: CapabilitiesDocument,
    pub limits: LimitsDocument,
}

/// What a task may reach beyond its sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CapabilitiesDocument {
    /// By its manifest.
    pub asked: Capabilities,
    /// What it is given of that.
    pub granted: Capabilities,
    /// What it is not given, each as a person reads it: `http GET https://x.example.com`.
    pub refused: Vec<String>,
}

/// What one call of a task may use, by the names of `[limits]`. Times are in seconds, sizes in bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LimitsDocument(pub serde_json::Map<String, Value>);

/// A task's parameter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ParamDocument {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub optional: bool,
}

/// What an upload came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstalledDocument {
    pub module: String,
    pub version: u32,
    pub digest: String,
    /// The key of its signature, where the worker looks at signatures.
    #[serde(default)]
    pub signed_by: Option<String>,
    pub tasks: Vec<TaskDocument>,
    /// Exports that are no tasks, and why.
    pub refused: Vec<RefusedDocument>,
    /// The workers of the store, and how far they are.
    #[serde(default)]
    pub workers: Vec<WorkerDocument>,
}

/// An export that is no task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefusedDocument {
    pub name: String,
    pub reason: String,
}

/// A module, and how the workers of its store have it, as they say.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ModuleDocument {
    #[serde(flatten)]
    pub module: Module,
    #[serde(default)]
    pub workers: Vec<WorkerDocument>,
}

/// How a worker has a module.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerDocument {
    pub worker: String,
    #[serde(flatten)]
    pub state: ModuleState,
}

impl ModuleDocument {
    pub(crate) fn new(module: Module, workers: &[WorkerState]) -> Self {
        let workers = WorkerDocument::of(&module.name, workers);
        Self { module, workers }
    }
}

impl WorkerDocument {
    /// How each worker has a module.
    pub(crate) fn of(module: &ModuleName, workers: &[WorkerState]) -> Vec<Self> {
        let of_one = |state: &WorkerState| Self {
            worker: state.worker.clone(),
            state: state.modules.get(module).cloned().unwrap_or_default(),
        };
        workers.iter().map(of_one).collect()
    }
}

/// Names a version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VersionDocument {
    pub version: u32,
}

impl From<&RegisteredTask> for TaskDocument {
    fn from(task: &RegisteredTask) -> Self {
        let signature = task.task.signature();
        let text = signature.to_string();
        // A manifest may have renamed it.
        let signature_text = match text.strip_prefix(signature.name.as_str()) {
            Some(rest) => format!("{}{rest}", task.name),
            None => text,
        };
        Self {
            name: task.name.clone(),
            module: task.module.to_string(),
            version: task.version,
            signature: signature_text,
            params: signature.params.iter().map(ParamDocument::from).collect(),
            result: signature.result.clone(),
            error: signature.error.clone(),
            docs: signature.docs.clone(),
            capabilities: CapabilitiesDocument::from(&*task.grants),
            limits: LimitsDocument::from(&task.limits),
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

impl From<&petiole_runtime::Param> for ParamDocument {
    fn from(param: &petiole_runtime::Param) -> Self {
        Self {
            name: param.name.clone(),
            ty: param.ty.clone(),
            optional: param.optional,
        }
    }
}

impl InstalledDocument {
    pub(crate) fn new(installed: &Installed, workers: &[WorkerState]) -> Self {
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

/// How long an answer may take: compiling a large component takes its time.
const ANSWER: Duration = Duration::from_secs(300);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest answer that is read: 64 MiB.
const MAX_ANSWER: u64 = 64 << 20;

/// A worker's HTTP API.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    /// A client for the API at `url`; `tls` is for `https://`.
    pub(crate) fn new(url: &Url, token: Option<String>, tls: TlsConfig) -> Self {
        let mut agent = ureq::Agent::config_builder();
        if is_loopback(url) {
            // Those of the environment are for what is elsewhere, and would see the token.
            agent = agent.proxy(None);
        }
        let agent = agent
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            // A redirect could carry the token elsewhere.
            .max_redirects(0)
            .build()
            .new_agent();
        Self {
            agent,
            url: url.as_str().trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// Uploads a component and activates it.
    pub(crate) fn push(&self, push: &Push) -> Result<InstalledDocument> {
        let mut request = self
            .agent
            .post(self.at(&["modules", &push.name]))
            .query("wait", push.wait.as_secs().to_string())
            // A worker that refuses says so before the component is sent, and not to a pipe that it has closed.
            .header("expect", "100-continue")
            .content_type("application/wasm");
        if !push.manifest.is_empty() {
            request = request.header(MANIFEST_HEADER, BASE64_STANDARD.encode(&push.manifest));
        }
        if let Some(signature) = &push.signature {
            request = request.header(SIGNATURE_HEADER, BASE64_STANDARD.encode(signature));
        }
        self.answer(self.authorized(request).send(&push.component))
    }

    /// All modules.
    pub(crate) fn modules(&self) -> Result<Vec<ModuleDocument>> {
        self.get(&["modules"])
    }

    /// One module.
    pub(crate) fn module(&self, name: &str) -> Result<ModuleDocument> {
        self.get(&["modules", name])
    }

    /// Makes a version the active one.
    pub(crate) fn activate(&self, name: &str, version: u32) -> Result<VersionDocument> {
        let request = self.agent.post(self.at(&["modules", name, "activate"]));
        self.answer(
            self.authorized(request)
                .send_json(json!({ "version": version })),
        )
    }

    /// Back to the version before.
    pub(crate) fn rollback(&self, name: &str) -> Result<VersionDocument> {
        let request = self.agent.post(self.at(&["modules", name, "rollback"]));
        self.answer(self.authorized(request).send_empty())
    }

    /// Removes a module, or one version of it.
    pub(crate) fn remove(&self, name: &str, version: Option<u32>, force: bool) -> Result<Value> {
        let mut request = self
            .agent
            .delete(self.at(&["modules", name]))
            .query("force", force.to_string());
        if let Some(version) = version {
            request = request.query("version", version.to_string());
        }
        self.answer(self.authorized(request).call())
    }

    /// The tasks that can be called.
    pub(crate) fn tasks(&self) -> Result<Vec<TaskDocument>> {
        self.get(&["tasks"])
    }

    fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.answer(self.authorized(self.agent.get(self.at(path))).call())
    }

    fn at(&self, path: &[&str]) -> String {
        let mut url = format!("{}/v1", self.url);
        for part in path {
            url.push('/');
            url.extend(url::form_urlencoded::byte_serialize(part.as_bytes()));
        }
        url
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let mut answer = answer
            .with_context(|| {
                let hint = match self.url.starts_with("https:") {
                    true => "is it running, and does --ca FILE, or api_ca, name the authority of its certificate",
                    false => "is it running, with --http",
                };
                format!("can't reach a worker's HTTP API at {} ({hint}?)", self.url)
            })
            .map_err(Failure::unreachable)?;
        let status = answer.status();
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec();
        let body = body
            .with_context(|| format!("the answer of {} broke off", self.url))
            .map_err(Failure::unreachable)?;
        if status.is_success() {
            let read = serde_json::from_slice(&body);
            return Ok(read.with_context(|| {
                format!("{} does not answer as a petiole worker does", self.url)
            })?);
        }
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said
            .as_ref()
            .and_then(|said| said.get("error"))
            .and_then(Value::as_str);
        let said = said.map_or_else(|| format!("{} answered {status}", self.url), str::to_owned);
        Err(match status.as_u16() {
            400 | 404 | 409 | 413 | 422 => Failure::usage(anyhow!(said)),
            _ => Failure::failed(anyhow!(said)),
        })
    }
}
