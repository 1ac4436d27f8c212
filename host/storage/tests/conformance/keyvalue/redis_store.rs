//! Cases of Redis's own: servers that go away, refuse, or hold values that no task has written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use petiole_permits::{KeyValueError, MAX_BATCH_SIZE};
use petiole_storage::keyvalue::{ANSWER_WAIT, ConnectError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::connect;
use crate::PATIENCE;
use crate::redis_server::{RedisServer, free_port};

#[tokio::test]
async fn a_server_that_is_down_is_named_without_its_password() {
    let url = format!("redis://me:secret@127.0.0.1:{}", free_port());
    let started = Instant::now();
    let error = connect(&url).await.unwrap_err();
    assert!(started.elapsed() < ANSWER_WAIT + Duration::from_secs(2));
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        !format!("{error:?} {error}").contains("secret"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start().await;
    let storage = connect(&server.url()).await.unwrap();
    storage.set("a", "1".into()).await.unwrap();
    server.kill();
    let started = Instant::now();
    let error = storage.get("a").await.unwrap_err();
    assert!(matches!(error, KeyValueError::Unreachable(_)), "{error:?}");
    assert!(started.elapsed() < ANSWER_WAIT + Duration::from_secs(2));
    server.restart().await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = storage.set("a", "2".into()).await {
        assert!(Instant::now() < deadline, "{error:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(storage.get("a").await.unwrap(), Some("2".into()));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_so_long() {
    let server = RedisServer::start().await;
    let storage = connect(&server.url()).await.unwrap();
    let mut client = server.client().await;
    let pause = ANSWER_WAIT * 4;
    redis::cmd("CLIENT")
        .arg("PAUSE")
        .arg(pause.as_millis().to_string())
        .query_async::<()>(&mut client)
        .await
        .unwrap();
    let started = Instant::now();
    let error = storage.set("a", "1".into()).await.unwrap_err();
    assert!(matches!(error, KeyValueError::Unreachable(_)), "{error:?}");
    let waited = started.elapsed();
    assert!(waited >= ANSWER_WAIT / 2 && waited < pause, "{waited:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    let right = format!("redis://:right@127.0.0.1:{}", server.port);
    connect(&right).await.unwrap();
    let wrong = format!("redis://:wrong@127.0.0.1:{}", server.port);
    let error = connect(&wrong).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_server_refuses() {
    let server = RedisServer::start().await;
    let storage = connect(&server.url()).await.unwrap();
    storage.set("n", "1".into()).await.unwrap();
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "1"])
        .query_async::<()>(&mut server.client().await)
        .await
        .unwrap();
    for error in [
        storage.set("a", "1".into()).await.unwrap_err(),
        storage.increment("n", 1).await.unwrap_err(),
        storage
            .compare_and_swap("a", None, "1".into())
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, KeyValueError::Refused(_)), "{error:?}");
    }
    assert_eq!(storage.get("n").await.unwrap(), Some("1".into()));
}

#[tokio::test]
async fn what_others_have_stored_does_no_harm() {
    let server = RedisServer::start().await;
    let storage = connect(&server.url()).await.unwrap();
    let mut client = server.client().await;
    redis::pipe()
        .cmd("RPUSH")
        .arg(&["own:list", "1"])
        .cmd("SETRANGE")
        .arg("own:large")
        .arg(MAX_BATCH_SIZE)
        .arg("x")
        .cmd("SET")
        .arg(b"own:\xff")
        .arg("1")
        .query_async::<()>(&mut client)
        .await
        .unwrap();
    let error = storage.get("own:list").await.unwrap_err();
    assert!(matches!(error, KeyValueError::Refused(_)), "{error:?}");
    let error = storage.increment("own:list", 1).await.unwrap_err();
    assert!(matches!(error, KeyValueError::NotCountable), "{error:?}");
    for error in [
        storage.get("own:large").await.unwrap_err(),
        storage
            .compare_and_swap("own:large", None, "1".into())
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(error, KeyValueError::TooLarge { size, .. } if size == MAX_BATCH_SIZE + 1),
            "{error:?}"
        );
    }
    let mut keys = storage.list_keys("own:", None).await.unwrap().keys;
    keys.sort();
    assert_eq!(keys, ["large", "list"]);
}

#[tokio::test]
async fn a_list_among_many_keys_of_others_goes_on() {
    let server = RedisServer::start().await;
    let storage = connect(&server.url()).await.unwrap();
    for thousand in 0..30 {
        let others = (0..1000).map(|n| (format!("other:{thousand}:{n}"), vec![]));
        storage.set_many(others.collect()).await.unwrap();
    }
    storage.set("own:a", "1".into()).await.unwrap();
    let (mut found, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = storage.list_keys("own:", cursor.as_deref()).await.unwrap();
        found.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a"]);
    assert!(pages < 30, "{pages} pages");
}

/// The URL of a proxy to a server; once `slow`, each of the server's answers takes a second.
async fn slow_way_to(server: &RedisServer, slow: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = ("127.0.0.1", server.port);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut asks, mut answered) = client.into_split();
            let (mut answers, mut asked) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut asked).await });
            let slow = slow.clone();
            tokio::spawn(async move {
                let mut answer = Vec::new();
                while answers
                    .read_buf(&mut answer)
                    .await
                    .is_ok_and(|read| read > 0)
                {
                    if slow.load(Ordering::Relaxed) {
                        sleep(Duration::from_secs(1)).await;
                    }
                    answered.write_all(&answer).await.unwrap();
                    answer.clear();
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_list_by_a_slow_server_goes_on_from_where_it_was() {
    let server = RedisServer::start().await;
    let slow = Arc::new(AtomicBool::new(false));
    let storage = connect(&slow_way_to(&server, slow.clone()).await)
        .await
        .unwrap();
    for thousand in 0..30 {
        let others = (0..1000).map(|n| (format!("other:{thousand}:{n}"), vec![]));
        storage.set_many(others.collect()).await.unwrap();
    }
    slow.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let page = storage.list_keys("own:", None).await.unwrap();
    assert!(started.elapsed() < ANSWER_WAIT + Duration::from_millis(900));
    assert_eq!(page.keys, Vec::<String>::new());
    let cursor = page.cursor.unwrap();
    slow.store(false, Ordering::Relaxed);
    storage.list_keys("own:", Some(&cursor)).await.unwrap();
}

#[tokio::test]
async fn rediss_checks_the_servers_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = folder.path().join("server.pem");
    std::fs::write(&certificate, authority.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("server.key"),
        authority.signing_key.serialize_pem(),
    )
    .unwrap();
    let tls_port = free_port().to_string();
    let server = RedisServer::start_in(
        folder,
        &[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            "%d/server.pem",
            "--tls-key-file",
            "%d/server.key",
            "--tls-auth-clients",
            "no",
        ],
    )
    .await;
    let trusting = format!(
        "rediss://localhost:{tls_port}?ssl_ca_certs={}",
        certificate.display()
    );
    let storage = connect(&trusting).await.unwrap();
    storage.set("a", "1".into()).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), Some("1".into()));
    let error = connect(&format!("rediss://localhost:{tls_port}"))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    connect(&format!("rediss://localhost:{tls_port}?ssl_cert_reqs=none"))
        .await
        .unwrap();
    drop(server);
}
