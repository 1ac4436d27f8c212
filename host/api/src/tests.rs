//! The router in this process, without a network: who is let in, and that nothing a request holds breaks it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

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

/// An upload of a form.
fn post_form(body: impl Into<Body>) -> Request<Body> {
    let mut request = post("/v1/modules/a.b", "upload", body);
    let content_type = HeaderValue::from_static("multipart/form-data; boundary=b");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
}

/// A body that does not come.
struct Never;

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// A body that does not end.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 1 << 20] = [b'-'; 1 << 20];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

#[tokio::test]
async fn each_token_opens_what_its_scope_says() {
    let site = Site::new(gate()).await;
    let table = [
        ("POST", "/v1/modules/a.b", "upload"),
        ("GET", "/v1/modules", "read"),
        ("GET", "/v1/modules/a.b", "read"),
        ("HEAD", "/v1/modules/a.b", "read"),
        ("GET", "/v1/tasks", "read"),
        ("GET", "/v1/tasks/a.b.c", "read"),
        ("GET", "/v1/results/x", "read send"),
        ("POST", "/v1/send", "send"),
        ("POST", "/v1/modules/a.b/activate", ""),
        ("POST", "/v1/modules/a.b/rollback", ""),
        ("DELETE", "/v1/modules/a.b", ""),
    ];
    for (method, path, opens) in table {
        for token in ["upload", "read", "send", "admin", "all"] {
            let answer = site.ask(request(method, path, Some(token))).await;
            let is_open = opens.contains(token) || ["admin", "all"].contains(&token);
            let refused = answer.status() == StatusCode::FORBIDDEN;
            assert_eq!(
                refused, !is_open,
                "{method} {path} with {token}: {answer:?}"
            );
            if refused {
                let challenge = &answer.headers()[WWW_AUTHENTICATE];
                assert!(challenge.to_str().unwrap().contains("insufficient_scope"));
            }
        }
    }
    for path in ["/healthz", "/metrics"] {
        assert_eq!(site.get(path, None).await.status(), StatusCode::OK);
    }
    let answer = site.ask(request("PATCH", "/v1/modules", None)).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let audit = site.audit();
    let refused = audit
        .iter()
        .find(|line| line["request"] == "DELETE /v1/modules/a.b")
        .expect("it is in the audit");
    assert_eq!(
        (&refused["outcome"], &refused["token"]),
        (&"refused".into(), &"upload".into())
    );
    assert_eq!(refused["address"], "192.0.2.1");
}

#[tokio::test]
async fn who_has_no_right_token_is_turned_away() {
    let site = Site::new(gate()).await;
    for authorization in [
        "Basic YWxs",
        "all",
        "Bearer",
        "Bearer wrong",
        "Bearer ",
        "bearer  all2",
    ] {
        let mut request = request("GET", "/v1/tasks", None);
        let value = authorization.parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        let answer = site.ask(request).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{authorization}");
        assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
    }
    let mut request = request("GET", "/v1/tasks", None);
    let value = "bearer all".parse().unwrap();
    request.headers_mut().insert(AUTHORIZATION, value);
    assert_eq!(site.ask(request).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn wrong_tokens_are_soon_not_even_answered_but_the_right_one_is() {
    let site = Site::new(gate()).await;
    for _ in 0..20 {
        let answer = site.get("/v1/tasks", Some("wrong")).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(site.audit().len(), 20);
    let answer = site.get("/v1/tasks", Some("wrong")).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = answer.headers()[RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=7).contains(&seconds), "{seconds}");
    assert_eq!(site.audit().len(), 20, "the audit can't be flooded");
    let answer = site.get("/v1/tasks", Some("read")).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn refusals_of_a_token_do_not_flood_the_audit_either() {
    let site = Site::new(gate()).await;
    for n in 0..25 {
        let answer = site.get("/v1/tasks", Some("send")).await;
        let expected = match n {
            0..20 => StatusCode::FORBIDDEN,
            _ => StatusCode::TOO_MANY_REQUESTS,
        };
        assert_eq!(answer.status(), expected, "{n}");
    }
    assert_eq!(site.audit().len(), 20);
    for (path, token, status) in [
        ("/v1/results/x", "send", StatusCode::OK),
        ("/v1/modules", "upload", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(site.get(path, Some(token)).await.status(), status);
    }
}

#[tokio::test]
async fn a_flood_without_a_token_takes_nothing_from_those_who_have_one() {
    // The default of http.rate.
    let rate = NonZeroU32::new(100).unwrap();
    let site = Site::new(Gate::new(&Settings { rate, ..settings() })).await;
    for n in 0..300 {
        let token = (n % 2 == 0).then_some("wrong");
        for path in ["/v1/tasks", "/metrics", "/no/such/path"] {
            site.get(path, token).await;
        }
    }
    let answer = site.get("/metrics", None).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    for path in ["/v1/tasks", "/metrics"] {
        let answer = site.get(path, Some("read")).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn one_token_leaves_places_to_others() {
    let gate = gate();
    let site = Site::new(gate.clone()).await;
    let others = |request| async {
        let answer = tokio::time::timeout(Duration::from_secs(10), site.ask(request)).await;
        answer.expect("there is a place").status()
    };
    for (path, token, body, status) in [
        ("/v1/send", "send", r#"{"task": "a.b"}"#, 202),
        ("/v1/modules/a.b", "upload", "no component", 422),
    ] {
        let slow = (0..10).map(|_| tokio::spawn(site.ask(post(path, token, Body::new(Never)))));
        let slow: Vec<_> = slow.collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(others(post(path, "all", body)).await, status, "{path}");
        slow.iter().for_each(|request| request.abort());
    }

    let reader = Actor {
        token: Some("read".into()),
        ..Actor::default()
    };
    let place = gate.results.try_take(&reader).unwrap();
    let mut waiting = Box::pin(site.get("/v1/results/x", Some("read")));
    let soon = Duration::from_millis(100);
    let early = tokio::time::timeout(soon, waiting.as_mut()).await;
    assert!(early.is_err(), "one at a time");
    let status = others(request("GET", "/v1/results/x", Some("send"))).await;
    assert_eq!(status, StatusCode::OK);
    drop(place);
    assert_eq!(waiting.await.status(), StatusCode::OK);
}

#[tokio::test]
async fn so_much_json_is_read_at_once() {
    let gate = gate();
    let site = Site::new(gate.clone()).await;
    let all = u32::try_from(JSON_BYTES).unwrap();
    let held = gate.json_bytes.acquire_many(all - 100).await.unwrap();
    let small = r#"{"task": "a.b"}"#;
    let sent = site.ask(post("/v1/send", "send", small)).await;
    assert_eq!(sent.status(), StatusCode::ACCEPTED);
    let large = format!("{small}{}", " ".repeat(100));
    let mut waiting = Box::pin(site.ask(post("/v1/send", "send", large)));
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err(), "there is no room for it");
    drop(held);
    assert_eq!(waiting.await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_change_is_made_and_recorded_though_its_client_hangs_up() {
    let gate = gate();
    let site = Site::new(gate.clone()).await;
    let activate = r#"{"version": 1}"#;
    let changes = [
        (post("/v1/modules/a.b", "upload", component(1)), "upload", 1),
        (post("/v1/modules/a.b", "upload", component(2)), "upload", 2),
        (
            post("/v1/modules/a.b/activate", "all", activate),
            "activate",
            1,
        ),
        (
            post("/v1/modules/a.b/rollback", "all", Body::empty()),
            "rollback",
            2,
        ),
        (
            request("DELETE", "/v1/modules/a.b?version=1", Some("all")),
            "remove",
            1,
        ),
    ];
    for (n, (request, action, version)) in changes.into_iter().enumerate() {
        let mut answer = Box::pin(site.ask(request));
        let begun =
            std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        assert!(begun.is_pending(), "{action}");
        drop(answer);
        gate.work.close();
        gate.work.wait().await;
        let audit = site.audit();
        assert_eq!(audit.len(), n + 1, "{action}: {audit:?}");
        let entry = &audit[n];
        assert_eq!(
            (&entry["action"], &entry["outcome"], &entry["version"]),
            (&action.into(), &"done".into(), &version.into()),
            "{entry}"
        );
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_recorded_too() {
    let site = Site::new(gate()).await;
    let requests = [
        (post("/v1/modules/no%20name", "all", "x"), "upload"),
        (
            post("/v1/modules/no%20name/activate", "all", "{}"),
            "activate",
        ),
        (
            post("/v1/modules/no%20name/rollback", "all", ""),
            "rollback",
        ),
        (post("/v1/modules/a.b/activate", "all", "{"), "activate"),
        (
            request("DELETE", "/v1/modules/a.b?version=x", Some("all")),
            "remove",
        ),
    ];
    for (n, (request, action)) in requests.into_iter().enumerate() {
        assert!(site.ask(request).await.status().is_client_error());
        let audit = site.audit();
        assert_eq!(audit.len(), n + 1, "{action}: {audit:?}");
        let entry = &audit[n];
        assert_eq!(
            (&entry["action"], &entry["outcome"]),
            (&action.into(), &"refused".into()),
            "{entry}"
        );
        assert!(entry["reason"].is_string(), "{entry}");
    }
}

#[tokio::test]
async fn a_form_brings_a_component_with_its_manifest() {
    let site = Site::new(gate()).await;
    let (component, manifest) = (component(1), b"[tasks.f]\nname = 'a.b.renamed'\n");
    let parts = form(&[("component", &component), ("manifest", manifest)]);
    let answer = site.ask(post_form(parts)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let task = site.get("/v1/tasks/a.b.renamed", Some("read")).await;
    assert_eq!(task.status(), StatusCode::OK);
    let entry = &site.audit()[0];
    let digest = Digest::of(manifest).to_string();
    assert_eq!(entry["manifest_sha256"], digest.as_str(), "{entry}");
}

#[tokio::test]
async fn what_is_no_form_is_refused_and_recorded() {
    let site = Site::new(gate()).await;
    let component = component(1);
    let whole = form(&[("component", &component)]);
    let bodies: [(Body, u16, &str); 8] = [
        (Body::empty(), 400, "does not begin"),
        (whole[..whole.len() - 9].to_vec().into(), 400, "breaks off"),
        (
            form(&[("component", &component), ("component", b"")]).into(),
            400,
            "twice",
        ),
        (
            form(&[("component", &component), ("other", b"")]).into(),
            400,
            "none of",
        ),
        (form(&[("manifest", b"")]).into(), 400, "no part component"),
        (
            form(&[("component", &component), ("manifest", b"[")]).into(),
            422,
            "manifest",
        ),
        (
            form(&[("component", &component), ("manifest", &[b' '; 100_000])]).into(),
            422,
            "manifest has more",
        ),
        (Body::new(Endless), 413, "form is larger"),
    ];
    for (n, (body, status, reason)) in bodies.into_iter().enumerate() {
        let answer = site.ask(post_form(body)).await;
        assert_eq!(answer.status(), status, "{reason}");
        let entry = &site.audit()[n];
        assert_eq!(
            (&entry["action"], &entry["outcome"]),
            (&"upload".into(), &"refused".into())
        );
        assert!(
            entry["reason"].as_str().unwrap().contains(reason),
            "{entry}"
        );
    }
    let mut without = post_form(Body::empty());
    let content_type = HeaderValue::from_static("multipart/form-data");
    without.headers_mut().insert(CONTENT_TYPE, content_type);
    assert_eq!(site.ask(without).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_again() {
    let rate = NonZeroU32::MIN;
    let site = Site::new(Gate::new(&Settings { rate, ..settings() })).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(site.get("/v1/tasks", Some("read")).await);
    }
    let refused = answers.last().unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(RETRY_AFTER));
    // Probes are not shut out.
    assert_eq!(site.get("/healthz", None).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn metrics_can_be_closed_and_certificates_asked_for() {
    let closed = Settings {
        open_metrics: false,
        ..settings()
    };
    let tls = TlsFiles {
        cert: "cert.pem".into(),
        key: "key.pem".into(),
        client_ca: Some("ca.pem".into()),
    };
    let asking = Settings {
        tls: Some(tls),
        ..closed.clone()
    };
    let site = Site::new(Gate::new(&asking)).await;
    for path in ["/metrics", "/v1/tasks"] {
        let answer = site.get(path, Some("read")).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("no client certificate"));
    }
    assert_eq!(site.get("/healthz", None).await.status(), StatusCode::OK);
    let site = Site::new(Gate::new(&closed)).await;
    for (token, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("send"), StatusCode::FORBIDDEN),
        (Some("read"), StatusCode::OK),
    ] {
        assert_eq!(site.get("/metrics", token).await.status(), status);
    }
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
