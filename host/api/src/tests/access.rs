//! Tokens, scopes and certificates: who is let in.

use super::*;

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
