//! The Redis backend as Celery's readers and operators see it.

use std::time::Duration;

use futures::future::join_all;
use petiole_celery::plan::Settle;
use petiole_celery::{Commit, State, TaskMeta, json};
use petiole_storage::results::{BACKEND_WAIT, RESULT_EXPIRES, ResultError, Results};
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::suite::{commit, connect, meta, run};
use crate::PATIENCE;
use crate::redis_server::{RedisServer, free_port};

fn key(meta: &TaskMeta) -> String {
    format!("celery-task-meta-{}", meta.task_id)
}

async fn failure(url: &str) -> ResultError {
    Results::connect(&url.into(), RESULT_EXPIRES)
        .await
        .expect_err("connected")
}

/// The published messages of a channel, from now on.
async fn subscribe(
    server: &RedisServer,
    channel: &str,
) -> mpsc::UnboundedReceiver<redis::PushInfo> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let client = redis::Client::open(format!("{}?protocol=resp3", server.url())).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    connection.subscribe(channel).await.unwrap();
    // Kept open for the rest of the test's runtime.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(connection);
    });
    receiver
}

async fn published(messages: &mut mpsc::UnboundedReceiver<redis::PushInfo>) -> String {
    loop {
        let push = timeout(PATIENCE, messages.recv())
            .await
            .expect("nothing was published")
            .unwrap();
        if push.kind == redis::PushKind::Message {
            return redis::from_redis_value(push.data[1].clone()).unwrap();
        }
    }
}

#[tokio::test]
async fn results_are_kept_and_published_as_celery_does() {
    let server = RedisServer::start().await;
    let backend = connect(&server.url(), RESULT_EXPIRES).await;
    let mut client = server.client().await;
    let retry = meta(
        State::Retry,
        json!({"exc_type": "E", "exc_message": [], "exc_module": "m"}),
    );
    let success = TaskMeta {
        task_id: retry.task_id.clone(),
        ..meta(State::Success, json::parse(br#"{"n": NaN}"#).unwrap())
    };
    let late = TaskMeta {
        task_id: retry.task_id.clone(),
        ..meta(State::Failure, json!("late"))
    };
    let mut messages = subscribe(&server, &key(&retry)).await;

    for meta in [&retry, &success] {
        backend.store(meta).await.unwrap();
        let stored: String = client.get(key(meta)).await.unwrap();
        assert_eq!(json::parse(stored.as_bytes()).unwrap(), meta.to_json());
        assert_eq!(published(&mut messages).await, stored);
        assert_eq!(stored.contains(r#""result":{"n":NaN},"#), meta == &success);
        let ttl: u64 = client.ttl(key(meta)).await.unwrap();
        assert!((86_000..=86_400).contains(&ttl), "{ttl}");
    }

    // The late failure must not reach those who listen either: the next message is the marker.
    backend.store(&late).await.unwrap();
    let _: () = client.publish(key(&retry), "marker").await.unwrap();
    assert_eq!(published(&mut messages).await, "marker");
}

/// A commit whose answer was lost is made again.
#[tokio::test]
async fn a_commit_that_is_repeated_is_published_once() {
    let server = RedisServer::start().await;
    let backend = connect(&server.url(), RESULT_EXPIRES).await;
    let failure = meta(State::Failure, json!("it broke"));
    let mut messages = subscribe(&server, &key(&failure)).await;
    let (run, record) = (run(), Commit::done(Settle::Ack).record(1));
    for _ in 0..2 {
        let results = std::slice::from_ref(&failure);
        assert_eq!(commit(&*backend, &run, &record, results, false).await, None);
    }
    let mut client = server.client().await;
    let _: () = client.publish(key(&failure), "marker").await.unwrap();
    let stored: String = client.get(key(&failure)).await.unwrap();
    assert_eq!(published(&mut messages).await, stored);
    assert_eq!(published(&mut messages).await, "marker");
}

#[tokio::test]
async fn results_without_expiry_are_kept_for_ever() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    let meta = meta(State::Success, json!(1));
    connect(&server.url(), Duration::ZERO)
        .await
        .store(&meta)
        .await
        .unwrap();
    let ttl: i64 = client.ttl(key(&meta)).await.unwrap();
    assert_eq!(ttl, -1);
}

#[tokio::test]
async fn a_success_that_another_writer_stored_stays() {
    let server = RedisServer::start().await;
    let backend = connect(&server.url(), RESULT_EXPIRES).await;
    let mut client = server.client().await;
    let long = "x".repeat(200);
    let table = [
        (
            r#"{"status": "SUCCESS", "result": 2, "children": []}"#.to_owned(),
            true,
        ),
        (r#"{"result": 2, "status": "SUCCESS"}"#.to_owned(), true),
        (
            format!(r#"{{"result": "{long}", "status": "SUCCESS"}}"#),
            true,
        ),
        (r#" { "status" : "SUCC\u0045SS"}"#.to_owned(), true),
        (
            r#"{"result": {"status": "SUCCESS"}, "status": "FAILURE"}"#.to_owned(),
            false,
        ),
        (r#"{"status": "SUCCESSFUL"}"#.to_owned(), false),
        (r#"{"status": null}"#.to_owned(), false),
        (r#"["SUCCESS"]"#.to_owned(), false),
        ("not json".to_owned(), false),
    ];
    for (stored, stays) in table {
        let failure = meta(State::Failure, json!("late"));
        let _: () = client.set(key(&failure), &stored).await.unwrap();
        backend.store(&failure).await.unwrap();
        let now: String = client.get(key(&failure)).await.unwrap();
        assert_eq!(now == stored, stays, "{stored}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_corrupt() {
    let server = RedisServer::start().await;
    let meta = meta(State::Success, json!(1));
    let _: () = server
        .client()
        .await
        .set(key(&meta), b"\x80\x04pickle".as_slice())
        .await
        .unwrap();
    let error = connect(&server.url(), RESULT_EXPIRES)
        .await
        .fetch(&meta.task_id)
        .await
        .unwrap_err();
    assert!(matches!(error, ResultError::Corrupt { task_id, .. } if task_id == meta.task_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_redis_is_survived() {
    let mut server = RedisServer::start().await;
    let backend = connect(&server.url(), RESULT_EXPIRES).await;
    backend
        .store(&meta(State::Success, json!(0)))
        .await
        .unwrap();
    for round in 0..3 {
        server.kill();
        let metas: Vec<_> = (0..20)
            .map(|n| meta(State::Success, json!([round, n])))
            .collect();
        let storing = tokio::spawn({
            let (backend, metas) = (backend.clone(), metas.clone());
            async move { join_all(metas.iter().map(|meta| backend.store(meta))).await }
        });
        server.restart().await;
        for stored in storing.await.unwrap() {
            stored.unwrap();
        }
        for meta in &metas {
            assert_eq!(
                backend.fetch(&meta.task_id).await.unwrap(),
                Some(meta.to_json())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_down_or_hangs_is_an_error_after_a_bounded_wait() {
    let mut down = RedisServer::start().await;
    let hangs = RedisServer::start().await;
    let (to_down, to_hanging) = (
        connect(&down.url(), RESULT_EXPIRES).await,
        connect(&hangs.url(), RESULT_EXPIRES).await,
    );
    down.kill();
    let _: () = redis::cmd("CLIENT")
        .arg(&["PAUSE", "600000", "ALL"])
        .query_async(&mut hangs.client().await)
        .await
        .unwrap();
    let meta = meta(State::Success, json!(1));
    let closed = format!("redis://:secret@127.0.0.1:{}", free_port());
    let begun = Instant::now();
    let (to_down, to_hanging, never_up) = tokio::join!(
        to_down.store(&meta),
        to_hanging.store(&meta),
        failure(&closed)
    );
    println!("given up after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= BACKEND_WAIT / 2);
    for error in [to_down.unwrap_err(), to_hanging.unwrap_err(), never_up] {
        assert!(
            matches!(error, ResultError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(
            !error.is_configuration() && !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_is_full_or_read_only_refuses_and_recovers() {
    let server = RedisServer::start().await;
    let backend = connect(&server.url(), RESULT_EXPIRES).await;
    let mut client = server.client().await;
    let refusals = [
        (
            ["CONFIG", "SET", "maxmemory", "1"],
            ["CONFIG", "SET", "maxmemory", "0"],
        ),
        (
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ];
    let readonly = free_port().to_string();
    let commands = refusals.iter().map(|(on, off)| (on.to_vec(), off.to_vec()));
    let replica = (
        vec!["REPLICAOF", "127.0.0.1", &readonly],
        vec!["REPLICAOF", "NO", "ONE"],
    );
    for (on, off) in commands.chain([replica]) {
        let meta = meta(State::Success, json!(1));
        let _: () = redis::cmd(on[0])
            .arg(&on[1..])
            .query_async(&mut client)
            .await
            .unwrap();
        let error = backend.store(&meta).await.unwrap_err();
        assert!(
            matches!(error, ResultError::Refused { .. }),
            "{on:?}: {error:?}"
        );
        let _: () = redis::cmd(off[0])
            .arg(&off[1..])
            .query_async(&mut client)
            .await
            .unwrap();
        backend.store(&meta).await.unwrap();
        assert_eq!(
            backend.fetch(&meta.task_id).await.unwrap(),
            Some(meta.to_json())
        );
    }
}

#[tokio::test]
async fn passwords_databases_and_sockets() {
    let server =
        RedisServer::start_with(&["--requirepass", "s@cret", "--unixsocket", "%d/redis.sock"])
            .await;
    let port = server.port;
    let socket = server.folder.path().join("redis.sock");
    let by_tcp = connect(
        &format!("redis://:s%40cret@127.0.0.1:{port}/3"),
        RESULT_EXPIRES,
    )
    .await;
    let url = format!(
        "redis+socket://{}?virtual_host=3&password=s%40cret",
        socket.display()
    );
    let by_socket = connect(&url, RESULT_EXPIRES).await;
    let other_database = connect(
        &format!("redis://default:s%40cret@127.0.0.1:{port}/4"),
        RESULT_EXPIRES,
    )
    .await;

    let meta = meta(State::Success, json!(1));
    by_tcp.store(&meta).await.unwrap();
    assert_eq!(
        by_socket.fetch(&meta.task_id).await.unwrap(),
        Some(meta.to_json())
    );
    assert_eq!(other_database.fetch(&meta.task_id).await.unwrap(), None);

    for url in [
        format!("redis://:wr0ng@127.0.0.1:{port}"),
        format!("redis://127.0.0.1:{port}"),
    ] {
        let error = failure(&url).await;
        assert!(matches!(error, ResultError::Refused { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
    }
    let error = failure(&format!("redis://:s%40cret@127.0.0.1:{port}/99")).await;
    assert!(matches!(error, ResultError::Refused { .. }), "{error:?}");
}

/// The key prefix that tells applications apart: <https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend-transport-options>.
#[tokio::test]
async fn a_key_prefix_stands_before_keys_and_channels() {
    let server = RedisServer::start().await;
    let meta = meta(State::Success, json!(1));
    let prefixed = format!("app_{}", key(&meta));
    let mut messages = subscribe(&server, &prefixed).await;
    let url = format!("{}?global_keyprefix=app", server.url());
    let backend = connect(&url, RESULT_EXPIRES).await;
    backend.store(&meta).await.unwrap();
    let stored: String = server.client().await.get(prefixed).await.unwrap();
    assert_eq!(published(&mut messages).await, stored);
    let fetched = backend.fetch(&meta.task_id).await.unwrap();
    assert_eq!(fetched, Some(meta.to_json()));
    let plain: Option<String> = server.client().await.get(key(&meta)).await.unwrap();
    assert_eq!(plain, None);
}

/// A user with just the rights asked for passes; one that lacks any of them gets an error before a task runs.
#[tokio::test]
async fn rights_are_tried_and_what_is_missing_is_named() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    let mut login = async |rules: &[&str]| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("worker").arg("reset");
        command.arg("on").arg(">secret").arg(rules);
        let _: () = command.query_async(&mut client).await.unwrap();
        let port = server.port;
        connect(
            &format!("redis://worker:secret@127.0.0.1:{port}/0"),
            RESULT_EXPIRES,
        )
        .await
    };
    let few = ["~celery-task-meta-*", "&celery-task-meta-*", "+@all"];
    let error = login(&few).await.check_rights().await.unwrap_err();
    let ResultError::NotPermitted { rights, .. } = &error else {
        panic!("{error:?}")
    };
    let rules: Vec<&str> = rights.split(' ').collect();
    assert!(rules.contains(&"~petiole-run-*") && error.is_final());

    let backend = login(&rules).await;
    backend.check_rights().await.unwrap();
    let meta = meta(State::Success, json!(1));
    backend.store(&meta).await.unwrap();
    let fetched = backend.fetch(&meta.task_id).await.unwrap();
    assert_eq!(fetched, Some(meta.to_json()));

    for missing in &rules {
        // To connect with.
        if ["+ping", "+select"].contains(missing) {
            continue;
        }
        let others: Vec<&str> = rules
            .iter()
            .copied()
            .filter(|rule| rule != missing)
            .collect();
        // With the script loaded already, a missing right to load it would not show.
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query_async(&mut server.client().await)
            .await
            .unwrap();
        let error = login(&others).await.check_rights().await;
        assert!(
            matches!(error, Err(ResultError::NotPermitted { .. })),
            "{missing}: {error:?}"
        );
    }
}
