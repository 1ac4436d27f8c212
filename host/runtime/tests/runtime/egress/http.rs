//! Requests in the clear.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn a_granted_request_is_sent_and_counted() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "hello")).await;
    let port = server.port;
    let names = Names::of(&[("api.test", &[&["127.0.0.1"]])]);
    let task = Sandboxed::new(&names)
        .await
        .http(&[format!("POST http://*.test:{port}")])
        .networks(ALL_OF_THIS_MACHINE);
    let url = format!("http://API.test.:{port}/a?b=c");
    let headers = json!([["x-own", "1"], ["content-length", "4"]]);
    let run = task
        .run("fetch", json!(["POST", url, headers, "body"]))
        .await;
    assert_eq!(run.outcome, Outcome::Success(json!([200, "hello"])));
    let heads = server.heads();
    let [head] = heads.as_slice() else {
        panic!("{heads:?}")
    };
    assert!(head.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nhost: api.test:{port}\r\n")),
        "{head}"
    );
    assert!(head.contains("\r\nx-own: 1\r\n"), "{head}");
    let usage = run.usage;
    assert_eq!(usage.requests, 1);
    assert_eq!(usage.bytes_out, head.len() as u64 + 4);
    assert_eq!(usage.bytes_in, response("200 OK", "", "hello").len() as u64);
}

#[tokio::test]
async fn what_no_rule_allows_is_not_sent() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let other = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let (port, other) = (server.port, other.port);
    let names = Names::of(&[
        ("api.test", &[&["127.0.0.1"]]),
        ("sub.api.test", &[&["127.0.0.1"]]),
    ]);
    let task = Sandboxed::new(&names)
        .await
        .http(&[
            format!("GET http://api.test:{port}"),
            format!("http://127.0.0.1:{port}"),
        ])
        .networks(ALL_OF_THIS_MACHINE);
    let (lines, guard) = logged();
    for (method, url, error) in [
        (
            "POST",
            format!("http://api.test:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "get",
            format!("http://api.test:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "GET",
            format!("https://api.test:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "GET",
            format!("http://api.test:{other}/"),
            "HttpRequestDenied",
        ),
        ("GET", "http://api.test/".to_owned(), "HttpRequestDenied"),
        (
            "GET",
            format!("http://sub.api.test:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "GET",
            format!("http://127.0.0.2:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "GET",
            format!("http://127.0.0.1:{other}/"),
            "HttpRequestDenied",
        ),
        ("GET", format!("http://[::1]:{port}/"), "HttpRequestDenied"),
        (
            "CONNECT",
            format!("http://127.0.0.1:{port}/"),
            "HttpRequestDenied",
        ),
        (
            "GET",
            format!("http://me@api.test:{port}/"),
            "HttpRequestUriInvalid",
        ),
        (
            "GET",
            format!("http://api.test:{port}@127.0.0.1:{port}/"),
            "HttpRequestUriInvalid",
        ),
        (
            "GET",
            format!("ftp://api.test:{port}/"),
            "HttpProtocolError",
        ),
    ] {
        let refused = task.call("fetch", json!([method, url])).await;
        assert_eq!(refused, Err(error.to_owned()), "{method} {url}");
    }
    drop(guard);
    assert_eq!(server.heads().len() + names.asked().len(), 0);
    let log = lines.text();
    for line in [
        format!("WARN petiole: http POST http://api.test:{port} is not granted to the task"),
        "http GET http://api.test is not granted".to_owned(),
        format!("http GET https://api.test:{port} is not granted"),
        format!("http GET http://[::1]:{port} is not granted"),
        "task_id=\"3f1b\"".to_owned(),
    ] {
        assert!(log.contains(&line), "{line} is not in {log}");
    }

    // every spelling of a granted address is that address
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(task.get(&url).await, Ok(json!([200, ""])), "{url}");
    }
}

#[tokio::test]
async fn a_task_without_rules_sends_nothing() {
    // another task of its module has some, so the interface is there
    let task = Sandboxed::new(&Names::of(&[("api.test", &[&["127.0.0.1"]])])).await;
    let (lines, guard) = logged();
    let refused = task.get("http://api.test/").await;
    assert_eq!(refused, Err("HttpRequestDenied".to_owned()));
    drop(guard);
    let log = lines.text();
    assert!(
        log.contains("http GET http://api.test is not granted"),
        "{log}"
    );
}

#[tokio::test]
async fn the_log_has_only_the_first_refusals() {
    let task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&["http://api.test".to_owned()]);
    let (lines, guard) = logged();
    let many = task.call("insist", json!(["http://other.test/", 50])).await;
    assert_eq!(many, Ok(json!(50)));
    drop(guard);
    let log = lines.text();
    assert_eq!(log.matches("is not granted").count(), 20, "{log}");
    assert_eq!(log.matches("are not logged").count(), 1, "{log}");
}

#[tokio::test]
async fn names_of_what_is_not_public_lead_nowhere() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let port = server.port;
    let table: &[&[&str]] = &[
        &["127.0.0.1"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["100.100.100.200"],
        &["0.0.0.0"],
        &["::1"],
        &["::"],
        &["fe80::1"],
        &["fd00:ec2::254"],
        &["::ffff:127.0.0.1"],
        &["::ffff:10.0.0.1"],
        &["::127.0.0.1"],
        &["64:ff9b::a00:1"],
        &["64:ff9b::7f00:1"],
        &["64:ff9b:1::7f00:1"],
        &["2002:7f00:1::"],
        &["2001:0:7f00:1::"],
        &["10.0.0.1", "::ffff:192.168.1.1", "127.0.0.1"],
    ];
    for addresses in table {
        let names = Names::of(&[("api.test", &[addresses])]);
        let task = Sandboxed::new(&names)
            .await
            .http(&[format!("http://*:{port}"), "http://127.0.0.1:1".to_owned()]);
        let (lines, guard) = logged();
        let refused = task.get(&format!("http://api.test:{port}/")).await;
        drop(guard);
        assert_eq!(
            refused,
            Err("DestinationIpProhibited".to_owned()),
            "{addresses:?}"
        );
        let log = lines.text();
        assert!(
            log.contains(&format!(
                "api.test resolves to {}",
                addresses[0].parse::<IpAddr>().unwrap()
            )),
            "{log}"
        );
    }
    // `*` is no grant of addresses that are not public
    let task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&[format!("http://*:{port}")]);
    let refused = task.get(&format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(refused, Err("HttpRequestDenied".to_owned()));
    assert_eq!(server.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_dialled() {
    let port = free_port().await;
    let allowed = format!("127.0.0.2:{port}");
    let allowed = Server::answering(&allowed, response("200 OK", "", "allowed")).await;
    let private = format!("127.0.0.1:{port}");
    let private = Server::answering(&private, response("200 OK", "", "private")).await;
    let names = Names::of(&[("api.test", &[&["127.0.0.1", "127.0.0.2"]])]);
    let task = Sandboxed::new(&names)
        .await
        .http(&[format!("http://api.test:{port}")])
        .networks(&["127.0.0.2/32"]);
    let url = format!("http://api.test:{port}/");
    assert_eq!(task.get(&url).await, Ok(json!([200, "allowed"])));
    assert_eq!((allowed.heads().len(), private.heads().len()), (1, 0));
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_the_checked_address_dialled() {
    let port = free_port().await;
    let checked = format!("127.0.0.2:{port}");
    let checked = Server::answering(&checked, response("200 OK", "", "checked")).await;
    let private = format!("127.0.0.1:{port}");
    let private = Server::answering(&private, response("200 OK", "", "private")).await;
    let names = Names::of(&[("api.test", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let task = Sandboxed::new(&names)
        .await
        .http(&[format!("http://api.test:{port}")])
        .networks(&["127.0.0.2/32"]);
    let url = format!("http://api.test:{port}/");
    assert_eq!(task.get(&url).await, Ok(json!([200, "checked"])));
    assert_eq!(names.asked(), ["api.test"]);
    // the next request looks it up again, and checks again
    let rebound = task.get(&url).await;
    assert_eq!(rebound, Err("DestinationIpProhibited".to_owned()));
    assert_eq!(names.asked(), ["api.test", "api.test"]);
    assert_eq!((checked.heads().len(), private.heads().len()), (1, 0));
}

#[tokio::test]
async fn a_redirect_is_a_request_of_its_own() {
    let inner = Server::answering("127.0.0.1:0", response("200 OK", "", "inner")).await;
    let to = |location: String| response("302 Found", &format!("location: {location}\r\n"), "");
    let by_address = to(format!("http://127.0.0.1:{}/", inner.port));
    let by_address = Server::answering("127.0.0.2:0", by_address).await;
    let by_name = to(format!("http://inner.test:{}/", inner.port));
    let by_name = Server::answering("127.0.0.2:0", by_name).await;
    let names = Names::of(&[
        ("api.test", &[&["127.0.0.2"]]),
        ("inner.test", &[&["127.0.0.1"]]),
    ]);
    let rules = [
        format!("http://api.test:{}", by_address.port),
        format!("http://api.test:{}", by_name.port),
        format!("http://inner.test:{}", inner.port),
    ];
    let task = Sandboxed::new(&names)
        .await
        .http(&rules)
        .networks(&["127.0.0.2/32"]);
    for (server, error) in [
        (&by_address, "HttpRequestDenied"),
        (&by_name, "DestinationIpProhibited"),
    ] {
        let url = format!("http://api.test:{}/", server.port);
        let followed = task.call("follow", json!([url])).await;
        assert_eq!(followed, Err(error.to_owned()));
    }
    assert_eq!(inner.heads(), Vec::<String>::new());

    let task = task.networks(ALL_OF_THIS_MACHINE);
    let url = format!("http://api.test:{}/", by_name.port);
    assert_eq!(
        task.call("follow", json!([url])).await,
        Ok(json!([200, "inner"]))
    );
}

#[tokio::test]
async fn a_head_can_not_be_forged() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&[format!("http://127.0.0.1:{}", server.port)]);
    for (name, value, error) in [
        ("x-a", "1\r\nx-b: 2", "HeaderError::InvalidSyntax"),
        ("x-a", "1\nx-b: 2", "HeaderError::InvalidSyntax"),
        ("x-a\r\nx-b", "1", "HeaderError::InvalidSyntax"),
        ("x-a: 1\r\nx-b", "1", "HeaderError::InvalidSyntax"),
        ("host", "other.test", "HeaderError::Forbidden"),
        ("Connection", "close", "HeaderError::Forbidden"),
        ("transfer-encoding", "chunked", "HeaderError::Forbidden"),
        ("te", "trailers", "HeaderError::Forbidden"),
        ("upgrade", "h2c", "HeaderError::Forbidden"),
        ("proxy-authorization", "x", "HeaderError::Forbidden"),
        ("content-length", "4, 4", "HeaderError::InvalidSyntax"),
    ] {
        let args = json!(["GET", url, [[name, value]]]);
        let refused = task.call("fetch", args).await;
        assert_eq!(refused, Err(error.to_owned()), "{name}: {value}");
    }
    for (method, path, error) in [
        ("GET / HTTP/1.1\r\nx-a: 1\r\n\r\n", "", "method"),
        ("GET", " HTTP/1.1\r\nx-a: 1\r\n\r\n", "path"),
        ("GET", "\r\nx-a: 1", "path"),
    ] {
        let args = json!([method, format!("{url}{path}")]);
        let refused = task.call("fetch", args).await;
        assert_eq!(refused, Err(error.to_owned()), "{method} {path}");
    }
    assert_eq!(server.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn slow_servers_are_waited_for_as_long_as_the_guest_says() {
    let silent = Server::start("127.0.0.1:0", async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    let halting = Server::start("127.0.0.1:0", async |mut stream: TcpStream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        let _ = stream.write_all(head.as_bytes()).await;
        std::future::pending::<()>().await;
    });
    let halting = halting.await;
    let ending = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let ending = Server::answering("127.0.0.1:0", ending).await;
    let nobody = free_port().await;
    let rules = [silent.port, halting.port, ending.port, nobody]
        .map(|port| format!("http://127.0.0.1:{port}"));
    let task = Sandboxed::new(&Names::of(&[])).await.http(&rules);
    for (port, error) in [
        (silent.port, "HttpResponseTimeout"),
        (halting.port, "ConnectionReadTimeout"),
        (ending.port, "HttpResponseIncomplete"),
        (nobody, "ConnectionRefused"),
    ] {
        let failed = task.get_soon(&format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(failed, Err(error.to_owned()));
    }
}

#[tokio::test]
async fn a_resolver_that_fails_or_hangs() {
    #[derive(Debug)]
    struct Hanging;
    #[async_trait::async_trait]
    impl Resolver for Hanging {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let roots = rustls::RootCertStore::empty();
    let hanging = Network::new(Arc::new(Hanging), roots).unwrap();
    for (network, error) in [
        (
            None,
            "DnsError(DnsErrorPayload { rcode: None, info-code: None })",
        ),
        (Some(hanging), "ConnectionTimeout"),
    ] {
        let task = match network {
            None => Sandboxed::new(&Names::of(&[])).await,
            Some(network) => Sandboxed::on(network).await,
        };
        let task = task.http(&["http://api.test".to_owned()]);
        let failed = task.get_soon("http://api.test/").await;
        assert_eq!(failed, Err(error.to_owned()));
    }
}

/// Lookups outlive those who wait for them.
#[tokio::test]
async fn a_module_looks_up_so_many_names_at_once() {
    #[derive(Debug, Default)]
    struct Stuck(AtomicUsize);
    #[async_trait::async_trait]
    impl Resolver for Stuck {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    }
    let stuck = Arc::new(Stuck::default());
    for (lookups, under_way) in [(10, 8), (1, 9)] {
        let network = Network::new(stuck.clone(), rustls::RootCertStore::empty());
        let task = Sandboxed::on(network.unwrap())
            .await
            .http(&["http://api.test".to_owned()]);
        for _ in 0..lookups {
            let failed = task.get_soon("http://api.test/").await;
            assert_eq!(failed, Err("ConnectionTimeout".to_owned()));
        }
        assert_eq!(stuck.0.load(Ordering::Relaxed), under_way);
    }
}

#[tokio::test]
async fn a_text_that_is_too_long_is_not_kept() {
    let task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&["http://a.test".to_owned()]);
    for (method, host, error) in [
        ("M".repeat(24), "b".repeat(253), "HttpRequestDenied"),
        ("M".repeat(25), "b".to_owned(), "method"),
        ("GET".to_owned(), "b".repeat(1024), "HttpRequestUriInvalid"),
        ("GET".to_owned(), "b".repeat(1031), "authority"),
    ] {
        let url = format!("http://{host}/");
        let refused = task.call("fetch", json!([method, url])).await;
        assert_eq!(refused, Err(error.to_owned()), "{method} {}", host.len());
    }
}

#[tokio::test]
async fn endless_responses_end_at_a_limit() {
    let endless = |head: &'static str, more: &'static str| {
        Server::start("127.0.0.1:0", move |mut stream: TcpStream| async move {
            let _ = stream.write_all(head.as_bytes()).await;
            let more = more.repeat(4096);
            while stream.write_all(more.as_bytes()).await.is_ok() {}
        })
    };
    let fields = endless("HTTP/1.1 200 OK\r\n", "x-field: value\r\n").await;
    let field = endless("HTTP/1.1 200 OK\r\nx-field: ", "x").await;
    let interim = endless("", "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n").await;
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", "x").await;
    let rules = [fields.port, field.port, interim.port, body.port]
        .map(|port| format!("http://127.0.0.1:{port}"));
    let mut task = Sandboxed::new(&Names::of(&[])).await.http(&rules);
    let url = |server: &Server| format!("http://127.0.0.1:{}/", server.port);
    for server in [&fields, &field] {
        let failed = task.get_soon(&url(server)).await;
        assert_eq!(
            failed,
            Err("HttpResponseHeaderSectionSize(Some(65536))".to_owned())
        );
    }
    let failed = task.get_soon(&url(&interim)).await;
    assert_eq!(failed, Err("HttpResponseTimeout".to_owned()));

    // a guest that keeps the body has its own memory's limit, and one that does not the time's
    let run = task.run("fetch", json!(["GET", url(&body)])).await;
    let (exc_type, ..) = failure(&run.outcome);
    assert_eq!(exc_type, "MemoryLimitExceeded");
    assert!(run.usage.bytes_in < 64 * MIB as u64, "{:?}", run.usage);
    task.limits.time = Duration::from_millis(300);
    let run = task.run("fetch_size", json!([url(&body)])).await;
    let (exc_type, ..) = failure(&run.outcome);
    assert_eq!(exc_type, "TimeLimitExceeded");
}

#[tokio::test]
async fn a_large_body_passes_through_a_small_memory() {
    const SIZE: usize = 32 * MIB;
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", &"x".repeat(SIZE))).await;
    let mut task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&[format!("http://127.0.0.1:{}", server.port)]);
    task.limits.memory = 4 * MIB;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let run = task.run("fetch_size", json!([url])).await;
    assert_eq!(run.outcome, Outcome::Success(json!(SIZE)));
    assert!(run.usage.bytes_in > SIZE as u64);
}

#[tokio::test]
async fn requests_have_a_limit() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let mut task = Sandboxed::new(&Names::of(&[]))
        .await
        .http(&[format!("http://127.0.0.1:{}", server.port)]);
    task.limits.requests = 3;
    assert_eq!(task.call("hoard", json!([url, 3])).await, Ok(json!(3)));
    let run = task.run("hoard", json!([url, 4])).await;
    let (exc_type, ..) = failure(&run.outcome);
    assert_eq!(exc_type, "RequestLimitExceeded");
    assert_eq!(run.limit, Some(Limit::Requests));
    assert_eq!((run.usage.requests, server.heads().len()), (3, 6));
}

#[tokio::test]
async fn connections_at_once_have_a_limit() {
    let server = Server::answering("127.0.0.1:0", response("200 OK", "", "body")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let silent = Server::start("127.0.0.1:0", async |mut stream: TcpStream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        std::future::pending::<()>().await;
    });
    let silent = silent.await;
    let unread = format!("http://127.0.0.1:{}/", silent.port);
    let task = Sandboxed::new(&Names::of(&[])).await.http(&[
        format!("http://127.0.0.1:{}", server.port),
        format!("http://127.0.0.1:{}", silent.port),
    ]);
    let hoarded = task.call("hoard", json!([unread, 65])).await;
    assert_eq!(hoarded, Err("ConnectionLimitReached".to_owned()));
    assert_eq!(silent.heads().len(), 64);
    // an answer that is over gives its place back
    assert_eq!(task.call("insist", json!([url, 80])).await, Ok(json!(0)));
}

/// A port that nobody listens on.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}
