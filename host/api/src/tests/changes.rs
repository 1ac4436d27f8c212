//! Changes to modules, done or refused, each in the audit.

use super::*;

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

/// An upload of a form.
fn post_form(body: impl Into<Body>) -> Request<Body> {
    let mut request = post("/v1/modules/a.b", "upload", body);
    let content_type = HeaderValue::from_static("multipart/form-data; boundary=b");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
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
