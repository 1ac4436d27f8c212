#![allow(clippy::unwrap_used, clippy::panic)]

use petiole_tls::Check;

use super::*;

fn one(text: &str) -> Target {
    match parse(&text.into()).unwrap() {
        BrokerUrl::Amqp(mut targets) if targets.len() == 1 => targets.remove(0),
        other => panic!("{text}: {other:?}"),
    }
}

/// Each form that kombu 5.7 takes, and what it makes of it.
#[test]
fn amqp_urls_are_read_as_kombu_reads_them() {
    for (text, host, port, vhost, login) in [
        ("amqp://", "localhost", 5672, "/", "guest:guest"),
        ("amqp://h", "h", 5672, "/", "guest:guest"),
        ("amqp://h/", "h", 5672, "/", "guest:guest"),
        ("amqp://h//", "h", 5672, "/", "guest:guest"),
        ("amqp://h/%2F", "h", 5672, "/", "guest:guest"),
        ("amqp://h//a", "h", 5672, "/a", "guest:guest"),
        ("amqp://h/a/b", "h", 5672, "a/b", "guest:guest"),
        ("AMQP://H/V", "H", 5672, "V", "guest:guest"),
        (
            "pyamqp://guest@localhost//",
            "localhost",
            5672,
            "/",
            "guest:guest",
        ),
        ("librabbitmq://u@h/v", "h", 5672, "v", "u:guest"),
        ("amqp:///v", "localhost", 5672, "v", "guest:guest"),
        ("amqp://:5673", "localhost", 5673, "/", "guest:guest"),
        ("amqp://u:p@", "localhost", 5672, "/", "u:p"),
        ("amqp://u:p@/v", "localhost", 5672, "v", "u:p"),
        ("pyamqp://u:p@:5673/v", "localhost", 5673, "v", "u:p"),
        (
            "amqp://a%40b:p%2Fw@10.0.0.1:5673/my%2Fhost",
            "10.0.0.1",
            5673,
            "my/host",
            "a@b:p/w",
        ),
        ("amqps://u:p@[::1]/x", "::1", 5671, "x", "u:p"),
        ("amqps://", "localhost", 5671, "/", "guest:guest"),
    ] {
        let uri = one(text).uri;
        let user = &uri.authority.userinfo;
        assert_eq!(
            (
                &*uri.authority.host,
                uri.authority.port,
                &*uri.vhost,
                &*format!("{}:{}", user.username, user.password)
            ),
            (host, port, vhost, login),
            "{text}"
        );
    }
}

#[test]
fn what_stands_behind_the_question_mark_is_used() {
    let query = one("amqp://h?heartbeat=30&frame_max=8192&channel_max=7&login_method=AMQPLAIN")
        .uri
        .query;
    assert_eq!(query.heartbeat, Some(30));
    assert_eq!(query.frame_max, Some(8192));
    assert_eq!(query.channel_max, Some(7));
    assert_eq!(query.auth_mechanism, Some(SASLMechanism::AMQPlain));
    assert_eq!(one("amqp://h").uri.query, AMQPQueryString::default());
}

#[test]
fn amqps_is_checked_unless_the_url_says_otherwise() {
    assert_eq!(one("amqp://h").tls, None);
    for (text, check) in [
        ("amqps://h", Check::Whole),
        ("amqps://h?ssl_cert_reqs=CERT_REQUIRED", Check::Whole),
        ("amqps://h?ssl_cert_reqs=CERT_NONE", Check::Nothing),
        ("amqps://h?ssl_check_hostname=false", Check::AnyHost),
    ] {
        assert_eq!(one(text).tls.unwrap().check, check, "{text}");
    }
    let target =
        one("amqps://h/v?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&login_method=EXTERNAL");
    assert!(target.tls.unwrap().client.is_some());
    assert_eq!(
        target.uri.query.auth_mechanism,
        Some(SASLMechanism::External)
    );
    let missing = check_files(&"amqp://h;amqps://u:secret@h?ssl_ca_certs=/no/such.pem".into());
    let message = missing.unwrap_err().to_string();
    assert!(message.contains("/no/such.pem: ") && !message.contains("secret"));
}

#[test]
fn sqlite_paths_are_relative_or_absolute() {
    for (text, path) in [
        ("sqlite://a/b.db", "a/b.db"),
        ("sqlite:///var/b.db", "/var/b.db"),
        ("sqlite://./b", "./b"),
    ] {
        match parse(&text.into()).unwrap() {
            BrokerUrl::Sqlite(read) => assert_eq!(read, PathBuf::from(path)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_list_keeps_its_order() {
    let BrokerUrl::Amqp(targets) = parse(&"amqp://a; amqp://b ;".into()).unwrap() else {
        panic!("not amqp")
    };
    assert_eq!(
        targets
            .iter()
            .map(|target| &*target.uri.authority.host)
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn what_cannot_be_used_says_why_without_the_password() {
    for (text, part) in [
        ("", "empty"),
        ("localhost", "it is no url: write amqp://"),
        ("http://u:secret@h", "\"http\" is not one of amqp"),
        ("redis://:secret@h", "\"redis\" is not one of amqp"),
        ("sentinel://h:26379", "\"sentinel\" is not one of amqp"),
        ("ampq://x", "\"ampq\" is not one of amqp"),
        ("pyamqps://h", "write amqps://"),
        ("amqp://u:pa;secret@h", "%3B"),
        ("amqp://h;localhost", "a url each"),
        ("amqp://u:secret@h:99999999", "port"),
        ("amqp://u:1#secret@h", "%23"),
        ("amqp://u:12?secret@h", "%3F"),
        ("amqp://u:12/secret@h", "%2F"),
        ("sqlite://", "names no file"),
        ("sqlite:x", "sqlite://PATH"),
        ("amqp://h;sqlite://x", "stands alone"),
        ("amqp://h/?heartbeat=x", "heartbeat is a whole number"),
        ("amqp://h/?heartbeat=70000", "too large"),
        ("amqp://h/?heartbeat=1&heartbeat=2", "twice"),
        (
            "amqp://h/?connection_timeout=5",
            "connection_timeout is not known",
        ),
        ("amqp://h/?login_method=GSSAPI", "write PLAIN"),
        ("amqps://h/?auth_mechanism=external", "write login_method"),
        ("amqps://h/?cacertfile=/x", "write ssl_ca_certs"),
        ("amqps://h/?cert_reqs=2", "write ssl_cert_reqs"),
        ("amqp://h/?ssl_ca_certs=/x", "need amqps://"),
        ("amqps://h/?ssl_keyfile=/x", "needs its ssl_certfile"),
        ("amqps://h/?ssl_cert_reqs=maybe", "\"maybe\""),
        ("amqps://h/?login_method=EXTERNAL", "with ssl_certfile"),
        ("amqp://h/?login_method=EXTERNAL", "with ssl_certfile"),
    ] {
        let message = parse(&text.into()).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
