//! A client of a worker's HTTP API.

use std::time::Duration;

use anyhow::{Context, anyhow};
use petiole_api::documents::{InstalledDocument, ModuleDocument, TaskDocument, VersionDocument};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::tls::TlsConfig;
use url::Url;
use uuid::Uuid;

use crate::config::is_loopback;
use crate::exit::{Failure, Result};

/// A module to push.
#[derive(Debug)]
pub(crate) struct Push {
    /// The module's name.
    pub name: String,
    pub component: Vec<u8>,
    /// In TOML; empty for none.
    pub manifest: String,
    /// In minisign's format.
    pub signature: Option<String>,
    /// The time to wait for the workers to have it.
    pub wait: Duration,
}

/// The time for an answer: compiling a large component takes its time.
const ANSWER: Duration = Duration::from_secs(300);

/// The time for connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest answer that is read: 64 MiB.
const MAX_ANSWER: u64 = 64 << 20;

/// The parts of a push as `multipart/form-data`. `boundary` is random, so that none of them holds it.
fn form(push: &Push, boundary: &str) -> Vec<u8> {
    let signature = push.signature.as_deref().unwrap_or_default();
    let parts = [
        ("manifest", push.manifest.as_bytes()),
        ("signature", signature.as_bytes()),
        ("component", &push.component),
    ];
    let mut form = Vec::with_capacity(push.component.len().saturating_add(1 << 10));
    for (name, content) in parts.into_iter().filter(|(_, content)| !content.is_empty()) {
        let head =
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    form
}

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
        let boundary = Uuid::new_v4().simple().to_string();
        let request = self
            .agent
            .post(self.at(&["modules", &push.name]))
            .query("wait", push.wait.as_secs().to_string())
            // A worker can refuse before the component is sent, instead of closing the connection in the middle of it.
            .header("expect", "100-continue")
            .content_type(format!("multipart/form-data; boundary={boundary}"));
        self.answer(self.authorized(request).send(form(push, &boundary)))
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
