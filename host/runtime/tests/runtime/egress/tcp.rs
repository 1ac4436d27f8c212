//! Connections that the guest's standard library makes.

use super::*;

#[tokio::test]
async fn a_granted_connection_is_made_and_counted() {
    let server = Server::answering("127.0.0.1:0", "answer").await;
    let port = server.port;
    let names = Names::of(&[("db.test", &[&["127.0.0.1"]])]);
    let task = Sandboxed::new(&names)
        .await
        .tcp(&[format!("db.test:{port}"), format!("127.0.0.2:{port}")])
        .networks(ALL_OF_THIS_MACHINE);
    let run = task
        .run("talk", json!([format!("db.test:{port}"), "select"]))
        .await;
    assert_eq!(run.outcome, Outcome::Success(json!("answer")));
    assert_eq!(server.heads(), ["select\n"]);
    let usage = run.usage;
    assert_eq!((usage.requests, usage.bytes_in, usage.bytes_out), (1, 6, 7));
    assert_eq!(names.asked(), ["db.test"]);

    // a literal names itself, and needs no network
    let literal = Server::answering(&format!("127.0.0.2:{port}"), "literal").await;
    let task = task.networks(&[]);
    let address = format!("127.0.0.2:{port}");
    let talked = task.call("talk", json!([address, "x"])).await;
    assert_eq!(talked, Ok(json!("literal")));
    drop(literal);
}

#[tokio::test]
async fn what_no_rule_names_is_not_connected_to() {
    let server = Server::answering("127.0.0.1:0", "answer").await;
    let other = Server::answering("127.0.0.1:0", "answer").await;
    let port = server.port;
    let names = Names::of(&[
        ("db.test", &[&["127.0.0.1"]]),
        ("inner.test", &[&["10.0.0.1", "::ffff:127.0.0.1"]]),
        ("other.test", &[&["127.0.0.1"]]),
    ]);
    let rules = [format!("db.test:{port}"), format!("inner.test:{port}")];
    let task = Sandboxed::new(&names)
        .await
        .tcp(&rules)
        .networks(&["127.0.0.2/32"]);
    let (lines, guard) = logged();
    let unresolved = Err("failed to lookup address information: Non-recoverable error".to_owned());
    for (address, error) in [
        (
            format!("127.0.0.1:{port}"),
            Err("PermissionDenied".to_owned()),
        ),
        (format!("[::1]:{port}"), Err("PermissionDenied".to_owned())),
        (
            format!("169.254.169.254:{port}"),
            Err("PermissionDenied".to_owned()),
        ),
        (format!("db.test:{port}"), unresolved.clone()),
        (format!("inner.test:{port}"), unresolved.clone()),
        (format!("other.test:{port}"), unresolved),
    ] {
        let refused = task.call("talk", json!([address, "x"])).await;
        assert_eq!(refused, error, "{address}");
    }
    drop(guard);
    let log = lines.text();
    for line in [
        format!("WARN petiole: tcp 127.0.0.1:{port} is not granted to the task"),
        "tcp other.test is not granted to the task".to_owned(),
        "inner.test resolves to 10.0.0.1, ::ffff:127.0.0.1, which is not public".to_owned(),
    ] {
        assert!(log.contains(&line), "{line} is not in {log}");
    }
    assert_eq!(names.asked(), ["db.test", "inner.test"]);

    // a name is for the ports that are granted with it
    let task = task.networks(ALL_OF_THIS_MACHINE);
    let address = format!("db.test:{}", other.port);
    let refused = task.call("talk", json!([address, "x"])).await;
    assert_eq!(refused, Err("PermissionDenied".to_owned()));
    assert_eq!((server.heads().len(), other.heads().len()), (0, 0));
}

#[tokio::test]
async fn without_a_grant_there_is_no_tcp() {
    let task = Sandboxed::new(&Names::of(&[("db.test", &[&["127.0.0.1"]])])).await;
    let (lines, guard) = logged();
    let refused = task.call("talk", json!(["127.0.0.1:1", "x"])).await;
    assert_eq!(refused, Err("PermissionDenied".to_owned()));
    let refused = task.call("look_up", json!(["db.test:1"])).await;
    let error = "failed to lookup address information: Non-recoverable error";
    assert_eq!(refused, Err(error.to_owned()));
    drop(guard);
    let log = lines.text();
    assert!(log.contains("the task is granted no `tcp`"), "{log}");
}

/// Each label of different characters keeps the host busy for a while, whatever is granted.
#[tokio::test]
async fn a_name_that_is_too_long_is_not_read() {
    let names = Names::of(&[]);
    let task = Sandboxed::new(&names).await;
    let label: String = ('\u{4e00}'..).take(1000).collect();
    let name = vec![label; 200].join(".");
    let address = json!([format!("{name}:1")]);
    let refused = "failed to lookup address information: Non-recoverable error";
    let looked_up = task.call("look_up", address.clone()).await;
    assert_eq!(looked_up, Err(refused.to_owned()));
    let task = task.tcp(&["*:1".to_owned()]);
    assert!(task.call("look_up", address).await.is_err());
    assert_eq!(names.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_task_sees_the_addresses_it_may_reach_and_no_others() {
    let names = Names::of(&[("db.test", &[&["10.0.0.1", "127.0.0.1", "::1"]])]);
    let task = Sandboxed::new(&names)
        .await
        .tcp(&["db.test:5432".to_owned()])
        .networks(ALL_OF_THIS_MACHINE);
    let seen = task.call("look_up", json!(["db.test:5432"])).await;
    assert_eq!(seen, Ok(json!(["127.0.0.1:5432"])));
}

#[tokio::test]
async fn a_task_never_serves() {
    let task = Sandboxed::new(&Names::of(&[])).await;
    let nothing = json!(["PermissionDenied", "PermissionDenied", "PermissionDenied"]);
    assert_eq!(task.call("serve", json!([])).await, Ok(nothing.clone()));
    let task = task.tcp(&["*:1".to_owned()]);
    assert_eq!(task.call("serve", json!([])).await, Ok(nothing));
}

#[tokio::test]
async fn connections_at_once_have_a_limit() {
    let server = Server::start("127.0.0.1:0", async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let server = server.await;
    let address = format!("127.0.0.1:{}", server.port);
    let mut task = Sandboxed::new(&Names::of(&[]))
        .await
        .tcp(std::slice::from_ref(&address));
    let run = task.run("keep_open", json!([address, 65])).await;
    let (_, args, _) = failure(&run.outcome);
    assert_eq!(args[0][0], json!(64), "{args:?}");
    task.limits.requests = 3;
    let run = task.run("keep_open", json!([address, 4])).await;
    let (exc_type, ..) = failure(&run.outcome);
    assert_eq!(exc_type, "RequestLimitExceeded");
}
