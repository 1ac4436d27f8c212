//! Rules, addresses and manifests, case by case.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use crate::*;

fn http(rule: &str) -> HttpRule {
    rule.parse().unwrap()
}

fn tcp(rule: &str) -> TcpRule {
    rule.parse().unwrap()
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

#[test]
fn http_rules_are_read_and_written() {
    for (text, written) in [
        ("https://api.example.com", "https://api.example.com"),
        ("https://API.Example.COM.:443", "https://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        (
            "HEAD,GET https://*.example.com:8443",
            "GET,HEAD https://*.example.com:8443",
        ),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0x7f.1", "http://127.0.0.1"),
        ("http://[::ffff:127.0.0.1]", "http://127.0.0.1"),
        ("http://[FD00::1]:80", "http://[fd00::1]"),
        ("https://*", "https://*"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("M-SEARCH http://a", "M-SEARCH http://a"),
    ] {
        assert_eq!(http(text).to_string(), written, "{text}");
        assert_eq!(http(written), http(text));
    }
    for (text, part) in [
        ("", "it is written"),
        ("api.example.com", "it is written"),
        ("ftp://api.example.com", "it is written"),
        ("HTTPS://api.example.com", "it is written"),
        ("https://", "is no host"),
        ("https://api.example.com/", "ends with the host"),
        ("https://api.example.com/path", "ends with the host"),
        ("https://me@api.example.com", "ends with the host"),
        ("https://api.example.com?q", "ends with the host"),
        ("https://api.example.com:", "from 1 to 65535"),
        ("https://api.example.com:0", "from 1 to 65535"),
        ("https://api.example.com:65536", "from 1 to 65535"),
        ("https://api.example.com:+443", "from 1 to 65535"),
        ("https://api.example.com:443:443", "is no host"),
        ("https://a..b", "a part of the name is empty"),
        ("https://api.*.com", "`*` stands alone"),
        ("https://*api.com", "`*` stands alone"),
        ("https://*.*.com", "`*` stands alone"),
        ("https://*.127.0.0.1", "an address has no subdomains"),
        ("https://::1", "is no host"),
        ("https://a b", "upper case"),
        ("get https://a", "upper case"),
        ("GET, HEAD https://a", "upper case"),
        (" https://a", "upper case"),
        ("GET,,HEAD https://a", "upper case"),
        ("CONNECT https://a", "CONNECT is never granted"),
        ("https://1.2.3.256", "is no host"),
    ] {
        let error = text.parse::<HttpRule>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let methods = |count: usize| {
        let names = (0..count).map(|n| "A".repeat(n % 8 + 1) + &"B".repeat(n / 8));
        names.collect::<Vec<_>>().join(",")
    };
    assert!(
        format!("{} https://a", methods(64))
            .parse::<HttpRule>()
            .is_ok()
    );
    let error = format!("{} https://a", methods(65)).parse::<HttpRule>();
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("more than 64 methods")
    );
    let long = format!("https://{}", "a.".repeat(127));
    assert!(long.parse::<HttpRule>().is_ok(), "253 characters");
    assert!(format!("{long}aa").parse::<HttpRule>().is_err());
}

#[test]
fn tcp_rules_are_read_and_written() {
    for (text, written) in [
        ("db.example.com:5432", "db.example.com:5432"),
        ("DB.example.com.:5432", "db.example.com:5432"),
        ("10.0.0.7:6379", "10.0.0.7:6379"),
        ("[fd00::7]:6379", "[fd00::7]:6379"),
        ("*.example.com:1", "*.example.com:1"),
        ("*:1", "*:1"),
    ] {
        assert_eq!(tcp(text).to_string(), written, "{text}");
        assert_eq!(tcp(written), tcp(text));
    }
    for text in [
        "",
        "db.example.com",
        ":5432",
        "db.example.com:",
        "db.example.com:0",
        "db.example.com:99999",
        "tcp://db.example.com:5432",
        "fd00::7:6379",
        "[fd00::7]",
        "a b:1",
    ] {
        assert!(text.parse::<TcpRule>().is_err(), "{text}");
    }
}

/// Each label of different characters takes a while to read.
#[test]
fn a_host_that_is_too_long_is_not_read() {
    let label: String = ('\u{4e00}'..).take(1000).collect();
    let name = vec![label; 1000].join(".");
    let size = name.len();
    for text in [name.clone(), format!("[{name}]")] {
        let error = text.parse::<Host>().unwrap_err().to_string();
        let expected = format!(
            "a host of {} bytes is longer than the limit of 1024",
            text.len()
        );
        assert_eq!(error, expected);
    }
    let error = format!("*.{name}:1")
        .parse::<TcpRule>()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("a host of {size} bytes")),
        "{error}"
    );
    // the longest name that there is
    let name = vec!["\u{1F980}".repeat(50); 4].join(".");
    assert!(name.len() <= MAX_HOST && name.parse::<Host>().is_ok());
}

#[test]
fn rules_match_what_they_name() {
    let table = [
        ("https://a.test", "GET", "https://a.test:443", true),
        ("https://a.test", "DELETE", "https://a.test:443", true),
        ("https://a.test", "CONNECT", "https://a.test:443", false),
        ("https://a.test", "GET", "https://a.test:8443", false),
        ("https://a.test", "GET", "http://a.test:443", false),
        ("https://a.test", "GET", "https://b.a.test:443", false),
        ("https://a.test", "GET", "https://xa.test:443", false),
        ("GET https://a.test", "GET", "https://a.test:443", true),
        ("GET https://a.test", "POST", "https://a.test:443", false),
        ("GET https://a.test", "get", "https://a.test:443", false),
        ("https://*.a.test", "GET", "https://b.a.test:443", true),
        ("https://*.a.test", "GET", "https://c.b.a.test:443", true),
        ("https://*.a.test", "GET", "https://a.test:443", false),
        ("https://*.a.test", "GET", "https://xa.test:443", false),
        ("https://*.a.test", "GET", "https://.a.test:443", false),
        ("https://*", "GET", "https://a.test:443", true),
        ("https://*", "GET", "https://93.184.215.14:443", true),
        ("https://*", "GET", "https://10.0.0.1:443", false),
        ("https://*", "GET", "https://[::1]:443", false),
        ("http://10.0.0.1", "GET", "http://10.0.0.1:80", true),
        ("http://10.0.0.1", "GET", "http://[::ffff:a00:1]:80", true),
        ("http://10.0.0.1", "GET", "http://167772161:80", true),
        ("http://10.0.0.1", "GET", "http://10.0.0.1.test:80", false),
    ];
    for (rule, method, url, expected) in table {
        let (scheme, server) = url.split_once("://").unwrap();
        let (name, port) = server.rsplit_once(':').unwrap();
        let scheme = match scheme {
            "http" => Scheme::Http,
            _ => Scheme::Https,
        };
        // a text that is no host matches nothing
        let matches = name
            .parse()
            .is_ok_and(|host| http(rule).matches(method, scheme, &host, port.parse().unwrap()));
        assert_eq!(matches, expected, "{rule}: {method} {url}");
    }
    assert!(tcp("*.a.test:1").matches(&host("b.a.test"), 1));
    assert!(!tcp("*.a.test:1").matches(&host("b.a.test"), 2));
    assert!(!tcp("*:1").matches(&host("127.0.0.1"), 1));
}

#[test]
fn the_public_internet() {
    for public in [
        "1.1.1.1",
        "93.184.215.14",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "223.255.255.255",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450:4001::200e",
        "2001:200::1",
        "2606:4700::5efe:101:101",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    for private in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::1.1.1.1",
        "::ffff:0:1.1.1.1",
        "64:ff9b:1::1",
        "100::1",
        "1fff::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:101:101::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2606:4700::200:5efe:a00:1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
}

#[test]
fn what_is_both_asked_for_and_allowed() {
    let asked: Capabilities = toml::from_str(
        r#"
        env = ["A", "B"]
        secrets = ["S", "T"]
        http = [
            "GET,POST https://api.example.com", "https://*.example.com", "https://other.test", "https://all.test",
            "GET,POST,PUT https://parts.test",
        ]
        tcp = ["db.example.com:5432", "db.example.com:5433"]
        keyvalue = true
        folders = { data = "read-only", out = "read-write", no = "read-only" }
        temp = "16MiB"
        "#,
    )
    .unwrap();
    let allowed: Capabilities = toml::from_str(
        r#"
        env = ["B", "C"]
        secrets = ["T"]
        http = [
            "GET https://api.example.com", "https://b.example.com", "GET https://all.test",
            "GET https://parts.test", "POST,DELETE https://*.test",
        ]
        tcp = ["*.example.com:5432"]
        folders = { data = "read-write", out = "read-only" }
        temp = "8MiB"
        random = false
        "#,
    )
    .unwrap();
    let (granted, refused) = asked.intersect(&allowed);
    let expected: Capabilities = toml::from_str(
        r#"
        env = ["B"]
        secrets = ["T"]
        http = [
            "GET https://api.example.com", "https://b.example.com", "POST,DELETE https://other.test",
            "GET https://all.test", "POST,DELETE https://all.test",
            "GET https://parts.test", "POST https://parts.test",
        ]
        tcp = ["db.example.com:5432"]
        folders = { data = "read-only", out = "read-only" }
        temp = "8MiB"
        random = false
        "#,
    )
    .unwrap();
    // the wildcard that is asked for has what is allowed of it, too
    let mut http: Vec<String> = granted.http.iter().map(ToString::to_string).collect();
    let mut expected_http: Vec<String> = expected.http.iter().map(ToString::to_string).collect();
    http.sort();
    expected_http.sort();
    http.dedup();
    assert_eq!(http, expected_http);
    assert_eq!(
        Capabilities {
            http: Vec::new(),
            ..granted
        },
        Capabilities {
            http: Vec::new(),
            ..expected
        }
    );
    let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            "env A",
            "secret S",
            "http POST https://api.example.com",
            "http https://*.example.com",
            "http https://other.test",
            "http https://all.test",
            "http PUT https://parts.test",
            "tcp db.example.com:5433",
            "keyvalue",
            "folder no read-only",
            "folder out read-write",
            "temp 16MiB (allowed: 8MiB)",
            "random",
        ]
    );
    let (granted, refused) = asked.intersect(&Capabilities::default());
    assert_eq!(granted, Capabilities::default());
    assert_eq!(refused.len(), 16, "{refused:?}");
}

#[test]
fn a_wildcard_that_is_asked_for_grants_no_address_that_is_not_public() {
    let asked: Capabilities = toml::from_str(r#"http = ["http://127.0.0.1"]"#).unwrap();
    let allowed: Capabilities = toml::from_str(r#"http = ["http://*"]"#).unwrap();
    let (granted, refused) = asked.intersect(&allowed);
    assert_eq!(granted, Capabilities::default());
    assert_eq!(refused.len(), 1);
    // nor does one that is allowed, by what is asked for
    let (granted, _) = allowed.intersect(&asked);
    assert_eq!(granted, Capabilities::default());
}

#[test]
fn manifests_say_what_is_wrong() {
    for (text, part) in [
        (r#"netwoks = []"#, "unknown field `netwoks`"),
        (r#"networks = ["10.0.0.0/8"]"#, "the operator's to allow"),
        (r#"env = ["A-B"]"#, "\"A-B\" is no variable's name"),
        (r#"env = ["1A"]"#, "is no variable's name"),
        (r#"env = [""]"#, "is no variable's name"),
        (r#"secrets = ["A=B"]"#, "is no variable's name"),
        (
            "env = [\"A\"]\nsecrets = [\"A\"]",
            "A is asked for in env and in secrets",
        ),
        (r#"http = ["api.example.com"]"#, "it is written"),
        (r#"tcp = ["db"]"#, "it is written HOST:PORT"),
        (
            r#"folders = { "a/b" = "read-only" }"#,
            "\"a/b\" is no folder's name",
        ),
        (r#"folders = { ".." = "read-only" }"#, "is no folder's name"),
        (r#"folders = { tmp = "read-only" }"#, "is no folder's name"),
        (r#"folders = { a = "write" }"#, "unknown variant `write`"),
        (r#"temp = 0"#, "0 is not a size"),
        (r#"temp = "1.5MiB""#, "\"1.5MiB\" is not a size"),
        (r#"temp = "99999999999999GiB""#, "is not a size"),
        (r#"temp = -1"#, "is not a size"),
        (r#"temp = true"#, "a number of bytes"),
        (r#"keyvalue = "yes""#, "a boolean"),
    ] {
        let error = toml::from_str::<Capabilities>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn json_and_toml_give_capabilities_back() {
    for text in [
        "",
        "clocks = false",
        r#"
        env = ["A"]
        secrets = ["S"]
        http = ["GET https://a"]
        tcp = ["a:1"]
        keyvalue = true
        temp = 1000
        clocks = false
        random = false
        folders = { data = "read-only" }
        "#,
    ] {
        let capabilities: Capabilities = toml::from_str(text).unwrap();
        let json = serde_json::to_string(&capabilities).unwrap();
        assert_eq!(
            serde_json::from_str::<Capabilities>(&json).unwrap(),
            capabilities
        );
        let grant = Grant {
            capabilities,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let text = toml::to_string(&grant).unwrap();
        assert_eq!(toml::from_str::<Grant>(&text).unwrap(), grant, "{text}");
    }
    let nothing = serde_json::to_string(&Capabilities::default()).unwrap();
    assert_eq!(nothing, "{}");
}

#[test]
fn grants_add_up() {
    let grant = |text: &str| toml::from_str::<Grant>(text).unwrap();
    let policy = Policy::new(vec![
        ("*".to_owned(), grant("temp = \"1MiB\"\nenv = [\"A\"]")),
        (
            "shop.*".to_owned(),
            grant(
                "temp = \"2MiB\"\nhttp = [\"https://a\"]\nnetworks = [\"10.0.0.0/8\"]\nfolders = { data = \"read-only\" }",
            ),
        ),
        (
            "shop.tasks".to_owned(),
            grant(
                "random = false\nhttp = [\"https://a\", \"https://b\"]\nfolders = { data = \"read-write\" }",
            ),
        ),
    ]);
    assert_eq!(
        policy.for_module("other"),
        grant("temp = \"1MiB\"\nenv = [\"A\"]")
    );
    assert_eq!(
        policy.for_module("shop.tasks"),
        grant(
            "temp = \"2MiB\"\nenv = [\"A\"]\nhttp = [\"https://a\", \"https://b\"]\nrandom = false\n\
             networks = [\"10.0.0.0/8\"]\nfolders = { data = \"read-write\" }"
        )
    );
    assert_eq!(Policy::default().for_module("shop"), Grant::default());
    assert_eq!(policy.grants().len(), 3);
}

#[test]
fn secrets_are_not_shown() {
    let secret = Secret::from("hunter2");
    assert_eq!(
        format!("{secret} {secret:?} {:?}", Some(&secret)),
        "*** *** Some(***)"
    );
    assert_eq!(secret.expose(), "hunter2");
}

#[test]
fn texts_lose_secrets() {
    let secrets = [
        "hunter2",
        "hunter2-longer",
        "abc",
        "",
        "one line\nand another",
        "ünsäglich",
    ];
    let secrets: Vec<Secret> = secrets.map(Secret::from).into();
    let redactor = Redactor::new(&secrets);
    for (text, redacted) in [
        ("nothing", "nothing"),
        ("hunter2", "***"),
        ("hunter2hunter2", "******"),
        ("a hunter2-longer b", "a *** b"),
        ("abc", "abc"),
        ("one line", "***"),
        ("x and another x", "x *** x"),
        ("one line\nand another", "***"),
        ("das ünsäglich", "das ***"),
    ] {
        assert_eq!(redactor.redact(text), redacted);
    }
    for (text, unfinished) in [
        ("", 0),
        ("x", 0),
        ("xh", 1),
        ("hunter2", 7),
        ("hunter", 6),
        ("hunter2-", 8),
        ("hunter3", 0),
        ("a line\nand", 3),
    ] {
        assert_eq!(redactor.unfinished(text.as_bytes()), unfinished, "{text}");
    }
    assert!(Redactor::new(&[Secret::from("abc")]).is_empty());
}

/// Even where a secret's end may begin the next one.
#[test]
fn a_cut_goes_through_no_secret() {
    for (secrets, text, unfinished) in [
        (&["abca"][..], "x abca", 4),
        (&["abca"], "x abcab", 5),
        (&["abca"], "abca abc", 3),
        (&["abca"], "abcax", 0),
        (&["-----"], "------------", 7),
        (&["1234", "4567"], "x 12345", 5),
        (&["1234", "123456"], "x 1234", 4),
    ] {
        let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::from).collect();
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.unfinished(text.as_bytes()), unfinished, "{text}");
    }
}

#[test]
fn a_policys_literal_reaches_what_it_names() {
    let address: IpAddr = "10.0.0.7".parse().unwrap();
    assert!(http("http://10.0.0.7").matches("GET", Scheme::Http, &Host::Address(address), 80));
    assert!(!http("http://*.0.0.7.test").matches("GET", Scheme::Http, &Host::Address(address), 80));
}
