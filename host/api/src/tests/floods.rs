//! Rates and places: who takes too much leaves something to others.

use super::*;

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
