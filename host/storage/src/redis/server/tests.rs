#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn server(url: &str) -> Server {
    Server::parse(&url.into()).unwrap_or_else(|reason| panic!("{url}: {reason}"))
}

fn address(server: &Server) -> &ConnectionAddr {
    match &server.place {
        Place::Address(addr) => addr,
        Place::Sentinel(sentinel) => panic!("{sentinel:?}"),
    }
}

/// Each form that Celery 5.7 takes, and its reading of it.
#[test]
fn urls_are_read_as_celery_reads_them() {
    for (url, addr, db, username, password) in [
        ("redis://", "localhost:6379", 0, None, None),
        ("redis:///3", "localhost:6379", 3, None, None),
        ("redis://:7000", "localhost:7000", 0, None, None),
        ("redis://cache", "cache:6379", 0, None, None),
        ("redis://cache:7000/2", "cache:7000", 2, None, None),
        (
            "redis://:s%40cret@cache/1",
            "cache:6379",
            1,
            None,
            Some("s@cret"),
        ),
        (
            "redis://me:secret@[::1]:7000",
            "::1:7000",
            0,
            Some("me"),
            Some("secret"),
        ),
        (
            "redis://me:secret@/1",
            "localhost:6379",
            1,
            Some("me"),
            Some("secret"),
        ),
        ("redis://me@cache", "cache:6379", 0, Some("me"), None),
        (
            "redis://cache/1?db=4&password=x&health_check_interval=30",
            "cache:6379",
            4,
            None,
            Some("x"),
        ),
        (
            "rediss://cache/1?ssl_cert_reqs=CERT_REQUIRED",
            "cache:6379",
            1,
            None,
            None,
        ),
        (
            "redis+socket:///run/redis.sock?virtual_host=2",
            "/run/redis.sock",
            2,
            None,
            None,
        ),
        (
            "redis+socket:///run/redis.sock?virtual_host=/2",
            "/run/redis.sock",
            2,
            None,
            None,
        ),
        (
            "redis+socket:///run/my%20redis?db=3&password=x",
            "/run/my redis",
            3,
            None,
            Some("x"),
        ),
        (
            "redis+socket://me:x@/run/redis.sock",
            "/run/redis.sock",
            0,
            Some("me"),
            Some("x"),
        ),
    ] {
        let server = server(url);
        assert_eq!(address(&server).to_string(), addr, "{url}");
        let login = &server.login;
        assert_eq!(
            (login.db(), login.username(), login.password()),
            (db, username, password),
            "{url}"
        );
    }
}

#[test]
fn a_rediss_server_is_checked_unless_the_url_says_otherwise() {
    for (url, unchecked) in [
        ("rediss://cache", false),
        ("rediss://cache?ssl_cert_reqs=optional", false),
        ("rediss://cache?ssl_check_hostname=false", false),
        ("rediss://cache?ssl_cert_reqs=none", true),
        ("rediss://cache?ssl_cert_reqs=CERT_NONE", true),
    ] {
        match address(&server(url)) {
            ConnectionAddr::TcpTls { insecure, .. } => assert_eq!(*insecure, unchecked, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[test]
fn sentinels_are_asked_for_the_primary() {
    let url =
        "sentinel://me:x@a:26379/2?sentinel_password=y;sentinel://[::1]:26380?master_name=m; ";
    let server = server(url);
    let Place::Sentinel(sentinel) = &server.place else {
        panic!("{server:?}");
    };
    let shown: Vec<_> = sentinel.sentinels.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a:26379", "::1:26380"]);
    assert_eq!(sentinel.primary, "m");
    assert_eq!(sentinel.password.as_deref(), Some("y"));
    let login = &server.login;
    assert_eq!(
        (login.db(), login.username(), login.password()),
        (2, Some("me"), Some("x"))
    );
    assert_eq!(server.tls, None);

    let tls = Server::parse(&"sentinel://a:26379?master_name=m&ssl_cert_reqs=none".into()).unwrap();
    assert_eq!(tls.tls.unwrap().check, Check::Nothing);
}

#[test]
fn the_key_prefix_is_celery_s() {
    for (written, prefix) in [
        ("", ""),
        ("app", "app_"),
        ("app_", "app_"),
        ("app:", "app:"),
        ("app-", "app-"),
        ("app.", "app."),
        ("%C3%A9", "é_"),
    ] {
        let url = format!("redis://cache?global_keyprefix={written}");
        assert_eq!(server(&url).key_prefix(), prefix, "{url}");
    }
}

#[test]
fn what_cannot_be_used_says_why_without_the_password() {
    for (url, part) in [
        ("", "not a URL"),
        ("cache:6379", "not a URL"),
        ("socket:///run/redis.sock", "redis+socket://"),
        ("unix:///run/redis.sock", "redis+socket://"),
        ("rediss+socket:///run/redis.sock", "redis+socket://"),
        ("redis://:secret@cache/orders", "\"orders\""),
        ("redis://:secret@cache/-1", "\"-1\""),
        ("redis://:secret@cache/0/1", "\"0/1\""),
        ("redis://:secret@cache:99999", "port"),
        ("redis://:1#secret@cache", "%23"),
        ("redis://:12?secret@cache", "%3F"),
        ("redis://:12/secret@cache", "%2F"),
        ("rediss://cache#insecure", "%23"),
        ("redis://cache/1?virtual_host=4", "behind the host"),
        ("redis://cache?ssl_cert_reqs=none", "need rediss://"),
        ("redis+socket:///x?ssl_ca_certs=/x", "need rediss://"),
        ("rediss://cache?ssl_cert_reqs=bad", "\"bad\""),
        ("rediss://cache?ssl_keyfile=/x", "ssl_certfile"),
        (
            "rediss://cache?ssl_password=secret",
            "ssl_password is not supported",
        ),
        ("redis://cache?credential_provider=a.B", "class of Python's"),
        ("redis://cache?colour=secret", "\"colour\" is not known"),
        ("redis://cache?db=1&db=1", "db is there twice"),
        (
            "redis://cache?password=secret&password=x",
            "password is there twice",
        ),
        (
            "rediss://cache?ssl_cert_reqs=none&ssl_cert_reqs=required",
            "ssl_cert_reqs is there twice",
        ),
        (
            "redis://cache?socket_timeout=1&socket_timeout=2",
            "socket_timeout is there twice",
        ),
        (
            "sentinel://a:1?master_name=m;sentinel://b:2?master_name=secret",
            "master_name is there twice, with another value",
        ),
        ("redis://cache?master_name=m", "need sentinel://"),
        ("redis+socket://run/redis.sock", "absolute"),
        ("redis+socket:///x?virtual_host=a", "\"a\""),
        ("sentinel://a:26379", "master_name is missing"),
        ("sentinel://a?master_name=m", ":26379"),
        ("sentinel://a:1;redis://b?master_name=m", "sentinel:// each"),
        ("sentinel://:pa;secret@a:1?master_name=m", "%3B"),
        ("sentinel://a:1;sentinel://b:2/3?master_name=m", "first url"),
        (
            "sentinel://a:1;sentinel://:secret@b:2?master_name=m",
            "first url",
        ),
        (
            "sentinel://a:1?master_name=m&ssl_check_hostname=false",
            "ssl_cert_reqs=none",
        ),
    ] {
        let reason = Server::parse(&url.into()).unwrap_err();
        assert!(reason.contains(part), "{url}: {reason}");
        assert!(!reason.contains("secret"), "{url}: {reason}");
    }
}

#[test]
fn a_certificate_that_is_refused_is_told_from_a_server_that_is_away() {
    use std::io;
    let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let refused = io::Error::new(io::ErrorKind::InvalidData, refused);
    assert!(petiole_tls::is_untrusted(&redis::RedisError::from(refused)));
    let away = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert!(!petiole_tls::is_untrusted(&redis::RedisError::from(away)));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for url in [
        "rediss://cache?ssl_ca_certs=/no/such.pem",
        "rediss://cache?ssl_certfile=/no/such.pem",
        "sentinel://a:1?master_name=m&ssl_ca_certs=/no/such.pem",
    ] {
        let reason = server(url).check_files().unwrap_err();
        assert!(reason.contains("/no/such.pem: "), "{url}: {reason}");
    }
    assert_eq!(server("redis://cache").check_files(), Ok(()));
}

#[test]
fn the_urls_of_sentinels_may_each_name_the_primary() {
    let url = "sentinel://a:1?master_name=m;sentinel://b:2?master_name=m";
    assert!(matches!(server(url).place, Place::Sentinel(_)));
}

/// A pipe into which nobody writes stands for a file on a disk that is away.
#[tokio::test]
async fn a_file_that_is_not_read_keeps_nobody_else_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("ca.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let server = server(&format!(
        "rediss://127.0.0.1:1?ssl_ca_certs={}",
        pipe.display()
    ));
    let config = AsyncConnectionConfig::new();
    {
        let mut connecting = std::pin::pin!(server.connect(&config));
        tokio::select! {
            biased;
            _ = connecting.as_mut() => panic!("connected without the file"),
            () = tokio::task::yield_now() => {}
        }
    }
    // Ends the reading.
    std::fs::write(&pipe, "").unwrap();
}
