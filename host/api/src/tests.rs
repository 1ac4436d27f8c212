//! The router in this process, without a network: who is let in, and that nothing a request holds breaks it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod changes;
mod floods;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::{NonZeroU16, NonZeroU32};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Frame;
use petiole_celery::Routes;
use petiole_celery::plan::Policy;
use petiole_modules::Digest;
use petiole_permits::Limits;
use petiole_runtime::{Cache, Compiler, PoolSize, Runtime};
use petiole_storage::results::Results;
use petiole_worker::{Grants, Registry, TaskDefaults, Worker, WorkerConfig};
use serde_json::Value;
use tower::ServiceExt;

use crate::actor::Actor;
use crate::audit::Audit;
use crate::door::Peer;
use crate::routes::router;
use crate::state::JSON_BYTES;
use crate::{Administration, Api, Gate, Scope, Settings, TlsFiles, TokenEntry};

/// A token for each scope, and one that is `http.token`; no rate that a test comes to.
fn settings() -> Settings {
    let entry = |scope: Scope| TokenEntry {
        name: scope.as_str().to_owned(),
        sha256: Digest::of(scope.as_str().as_bytes()),
        scopes: vec![scope],
    };
    Settings {
        addr: ([127, 0, 0, 1], 0).into(),
        any_port: false,
        token: Some("all".to_owned()),
        tokens: Scope::ALL.map(entry).to_vec(),
        tls: None,
        plain: false,
        rate: NonZeroU32::new(1_000_000).unwrap(),
        open_metrics: true,
    }
}

/// Of tasks that are not run.
const LIMITS: Limits = Limits {
    memory: 64 << 20,
    table_elements: 1000,
    cpu_time: Duration::from_secs(1),
    time: Duration::from_secs(1),
    ..Limits::DEFAULTS
};

/// An API on an embedded broker, results and an empty store, all in `dir`.
async fn api(dir: &Path, gate: Gate) -> Api {
    let url = |scheme: &str, name: &str| {
        petiole_permits::ServiceUrl::from(format!("{scheme}://{}/{name}", dir.display()))
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let size = PoolSize {
        slots: 1,
        max_memory: 128 << 20,
        budget: 1 << 30,
        readers: 1,
    };
    let (store, results, broker) = (
        url("file", "store"),
        url("sqlite", "r.db"),
        url("sqlite", "b.db"),
    );
    let registry = Registry::open(
        &store,
        Runtime::new(size).unwrap(),
        Cache::open(&dir.join("cache")).unwrap(),
        Compiler::in_process(),
        TaskDefaults {
            limits: LIMITS,
            most: LIMITS,
            max_retries: 3,
            default_retry_delay: Duration::from_secs(180),
        },
        Grants::default(),
        None,
    );
    let registry = registry.await.unwrap();
    let results = Results::connect(&results, day).await.unwrap();
    let broker = petiole_broker::connect(&broker, petiole_broker::MESSAGES);
    let broker = broker.await.unwrap();
    // As a worker does at its start; and a queue that others have.
    for queue in ["celery", "q"] {
        broker.declare(queue).await.unwrap();
    }
    let routes = Routes::new("celery");
    let policy = Policy {
        hostname: "w@tests".to_owned(),
        origin: "1@tests".to_owned(),
        routes: routes.clone(),
        results: results.mode(),
        result_extended: false,
        quarantine: "petiole.quarantine".to_owned(),
        sent_limit: 1 << 20,
    };
    let worker = WorkerConfig {
        queues: vec!["celery".to_owned()],
        concurrency: NonZeroU16::MIN,
        queue_concurrency: Default::default(),
        prefetch_multiplier: NonZeroU16::MIN,
        delivery_limit: NonZeroU16::MIN,
        policy,
        drain: Duration::ZERO,
    };
    let worker = Worker::new(
        worker,
        Arc::clone(&broker),
        results.clone(),
        Arc::clone(&registry),
    );
    let audit = Audit::open(Some(&dir.join("audit.jsonl"))).unwrap();
    let administration = Administration::new(registry.store().clone(), audit);
    Api {
        registry,
        broker,
        results,
        status: worker.status(),
        routes: Arc::new(routes),
        origin: "1@tests".into(),
        administration,
        gate,
    }
}

struct Site {
    dir: tempfile::TempDir,
    router: Router,
}

impl Site {
    async fn new(gate: Gate) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let router = router(api(dir.path(), gate).await);
        Self { dir, router }
    }

    fn ask(&self, mut request: Request<Body>) -> impl Future<Output = Response<Body>> + use<> {
        let peer = Peer {
            address: [192, 0, 2, 1].into(),
            certificate: None,
        };
        request.extensions_mut().insert(peer);
        let answer = self.router.clone().oneshot(request);
        async { answer.await.unwrap() }
    }

    fn audit(&self) -> Vec<Value> {
        let audit = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        let lines = audit.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Response<Body> {
        self.ask(request("GET", path, token)).await
    }
}

fn request(method: &str, path: &str, token: Option<&str>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    request.body(Body::empty()).unwrap()
}

fn post(path: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request("POST", path, Some(token));
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = body.into();
    request
}

fn gate() -> Gate {
    Gate::new(&settings())
}

fn component(result: u32) -> Vec<u8> {
    let text = "(component \
        (core module $m (func (export \"f\") (result i32) i32.const N)) (core instance $i (instantiate $m)) \
        (func (export \"f\") (result s32) (canon lift (core func $i \"f\"))))";
    wat::parse_str(text.replace('N', &result.to_string())).unwrap()
}

/// A form with these parts; its boundary is `b`.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, content) in parts {
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        form.extend([head.as_bytes(), content, b"\r\n"].concat());
    }
    form.extend(b"--b--\r\n");
    form
}

/// Methods, those with most to read most often.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::POST,
    Method::POST,
    Method::POST,
    Method::POST,
    Method::DELETE,
    Method::HEAD,
    Method::PATCH,
];

const PATHS: [&str; 14] = [
    "/healthz",
    "/metrics",
    "/v1/modules",
    "/v1/modules/a.b",
    "/v1/modules/a.b",
    "/v1/modules/a.b",
    "/v1/modules/a.b/activate",
    "/v1/modules/a.b/rollback",
    "/v1/tasks",
    "/v1/tasks/a.b.c",
    "/v1/send",
    "/v1/send",
    "/v1/results/x",
    "/",
];

/// A request of these bytes. Text is a request as in `corpus/`: method and path, headers, an empty line, the body.
/// Other bytes choose method, path and token, and then are the path's end, a header and the body.
fn any_request(bytes: &[u8]) -> Option<Request<Body>> {
    if bytes.first().is_some_and(u8::is_ascii_uppercase) {
        return written_request(bytes);
    }
    let mut bytes = bytes.iter().copied();
    let mut next = || usize::from(bytes.next().unwrap_or(0));
    let method = METHODS[next() % METHODS.len()].clone();
    let path = PATHS[next() % PATHS.len()];
    let token = ["upload", "read", "send", "admin", "all", "wrong"][next() % 6];
    let (in_path, in_header) = (next() % 32, next() % 64);
    let kind = next() % 4;
    let mut rest: Vec<u8> = bytes.collect();
    let mut body = rest.split_off(rest.len().min(in_path + in_header));
    let header = rest.split_off(rest.len().min(in_path));
    if kind == 0 {
        // The beginning of a component, so that more than the first check sees it.
        body.splice(..0, *b"\0asm\x0d\0\x01\0");
    }
    let end: String = url::form_urlencoded::byte_serialize(&rest).collect();
    let uri = match kind {
        1 => format!("{path}?version={end}&force={end}"),
        2 => format!("{path}{end}"),
        _ => path.to_owned(),
    };
    let mut content_type = "application/json";
    if kind == 3 {
        // A form: what is in its parts, and between them, is the body's.
        content_type = "multipart/form-data; boundary=b";
        let text = ["manifest", "signature"][in_path % 2];
        body = form(&[
            (text, &header),
            ("component", &[b"\0asm\x0d\0\x01\0", &body[..]].concat()),
        ]);
    }
    let request = Request::builder()
        .method(method)
        .uri(Uri::try_from(uri).ok()?)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, content_type)
        .header("x-request-id", HeaderValue::from_bytes(&header).ok()?);
    request.body(Body::from(body)).ok()
}

fn written_request(bytes: &[u8]) -> Option<Request<Body>> {
    let head = bytes
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(head);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, path) = first.split_at(space);
    let mut request = Request::builder()
        .method(Method::from_bytes(method).ok()?)
        .uri(Uri::try_from(&path[1..]).ok()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        request = request.header(
            HeaderName::from_bytes(name).ok()?,
            HeaderValue::from_bytes(value).ok()?,
        );
    }
    let body = body.get(2..).unwrap_or_default().to_vec();
    request.body(Body::from(body)).ok()
}

/// Anything wrong that a client sends is its own fault, and the answer says so in JSON.
#[test]
fn any_bytes_are_a_request() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let site = tokio.block_on(Site::new(gate()));
    let shared = AssertUnwindSafe((tokio, site, Mutex::new(BTreeMap::<u16, usize>::new())));
    bolero::check!()
        .with_iterations(3_000)
        .for_each(|bytes: &[u8]| {
            let (tokio, site, seen) = &*shared;
            let Some(request) = any_request(bytes) else {
                return;
            };
            let what = format!("{} {}", request.method(), request.uri());
            let is_head = request.method() == Method::HEAD;
            let answer = tokio.block_on(site.ask(request));
            let status = answer.status();
            *seen.lock().unwrap().entry(status.as_u16()).or_default() += 1;
            let is_probe = status == StatusCode::SERVICE_UNAVAILABLE && what.contains("/readyz");
            assert!(status.as_u16() < 500 || is_probe, "{what}: {status}");
            if status.as_u16() < 400 || is_head || is_probe {
                return;
            }
            let body = tokio
                .block_on(to_bytes(answer.into_body(), 1 << 20))
                .unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            assert!(body["error"].is_string(), "{what}: {status} {body}");
        });
    let (.., seen) = &*shared;
    let seen = seen.lock().unwrap();
    println!("answers: {seen:?}");
    for status in [200, 202, 400, 401, 403, 404, 405, 422, 429] {
        assert!(
            seen.contains_key(&status),
            "no request came so far as {status}: {seen:?}"
        );
    }
}
