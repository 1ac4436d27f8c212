#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod file;

use petiole_api::Scope;
use petiole_celery::Destination;

use super::*;

/// A layer of a file `petiole.toml`.
fn layer(text: &str) -> Layer {
    super::file::read(Path::new("petiole.toml"), text, &keys()).unwrap()
}

fn resolved(text: &str) -> Result<Config, ConfigError> {
    resolved_at("petiole.toml", text)
}

fn resolved_at(path: &str, text: &str) -> Result<Config, ConfigError> {
    Config::new(vec![super::file::read(Path::new(path), text, &keys())?])
}

/// As a worker looks at it.
fn usable(layers: Vec<Layer>) -> Result<(), ConfigError> {
    let config = Config::new(layers)?;
    config.broker.check_url()?;
    config.results.check_url()
}

#[test]
fn servers_of_celery_alone_concern_those_who_use_them() {
    let layer = |pairs: &'static [(&str, &str)]| {
        let var = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        env::read(&keys(), move |name| {
            var(name).map(|(_, value)| value.into())
        })
        .unwrap()
    };
    let celerys = || {
        layer(&[
            ("CELERY_BROKER_URL", "sqs://id:hush@"),
            ("CELERY_RESULT_BACKEND", "django-db"),
        ])
    };
    let config = Config::new(vec![celerys()]).unwrap();
    let error = config.results.check_url().err().unwrap().to_string();
    for part in [
        "env CELERY_RESULT_BACKEND: ",
        "django-db",
        "redis://",
        "--results",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = config.broker.check_url().err().unwrap().to_string();
    for part in [
        "env CELERY_BROKER_URL: ",
        "sqs",
        "amqp",
        "PETIOLE_BROKER_URL",
    ] {
        assert!(error.contains(part) && !error.contains("hush"), "{error}");
    }
    let ours = layer(&[("PETIOLE_RESULT_BACKEND", "django-db")]);
    let config = Config::new(vec![ours]).unwrap();
    let error = config.results.check_url().err();
    assert!(!error.unwrap().to_string().contains("Where Celery needs it"));
}

#[test]
fn a_higher_layer_wins_and_is_named() {
    let flags = Flags::default().set("broker", Some("amqp://flag".to_owned()));
    let layers = vec![
        layer("broker = 'amqp://file'\nconcurrency = 7\n[routes]\n'a.*' = 'a'"),
        flags.layer(&keys()).unwrap(),
    ];
    let config = Config::new(layers).unwrap();
    let origins = config.origins();
    assert_eq!(
        (config.broker.url.expose(), origins.of("broker")),
        ("amqp://flag", "flag --broker")
    );
    assert_eq!(
        (config.worker.concurrency.get(), origins.of("concurrency")),
        (7, "petiole.toml")
    );
    assert!(!origins.has("results"));
    let routes = config.broker.routes();
    assert_eq!(routes.destination("a.x"), Destination::queue("a"));
    assert_eq!(routes.destination("b.x"), Destination::queue("celery"));
}

#[test]
fn what_cannot_be_used_is_named_with_its_layer() {
    for (text, reason) in [
        ("broker = 'localhost'", "broker url \"localhost\""),
        ("results = 'amqp://x'", "result backend \"amqp://x\""),
        ("store = 's3://b'", "not supported yet"),
        ("queues = []", "queues []"),
        ("quarantine_queue = 'celery'", "quarantine_queue \"celery\""),
        ("http = { token = 'short' }", "shorter than 16"),
        ("limits = { time = 0 }", "limits.time is 0"),
        ("limits = { cpu_time = 0 }", "limits.cpu_time is 0"),
        ("limits = { memory = 0 }", "limits.memory is 0"),
        (
            "limits = { memory = '2GiB' }",
            "limits.memory 2GiB is more than max_limits.memory 1GiB",
        ),
        ("max_limits = { memory = '5GiB' }", "at most 4GiB"),
        (
            "limits = { time = 20 }\nmax_limits = { time = 10 }",
            "limits.time 20 is more than max_limits.time 10",
        ),
        (
            "max_limits = { depth = 5000000000 }",
            "max_limits.depth 5000000000 is more than a worker can count",
        ),
        ("keyvalue = 'amqp://x'", "no storage for \"amqp\""),
        ("env = { '1X' = 'v' }", "env.\"1X\" is no variable's name"),
        (
            "env = { X = 'v' }\nsecrets = { X = 'v' }",
            "X is in [env] and in [secrets]",
        ),
        (
            "folders = { tmp = '/srv' }",
            "folders.\"tmp\": a folder's name",
        ),
        ("queue_concurrency = { '' = 1 }", "a queue has a name"),
        (
            "grants = { 'shop.*' = { env = ['X'] } }",
            "grants.\"shop.*\" allows X, and [env] does not say",
        ),
        (
            "env = { X = 'v' }\ngrants = { 'shop.*' = { secrets = ['X'] } }",
            "grants.\"shop.*\" allows X, and [secrets] does not say",
        ),
        (
            "grants = { 'shop.*' = { folders = { data = 'read-only' } } }",
            "grants.\"shop.*\" allows data, and [folders] does not say",
        ),
    ] {
        let error = usable(vec![layer(text)]).err().unwrap().to_string();
        assert!(
            error.starts_with("petiole.toml: ") && error.contains(reason),
            "{text}: {error}"
        );
    }
}

/// The parser is the worker's own, so that `config check` and the worker can't disagree.
#[test]
fn urls_are_read_as_the_worker_reads_them() {
    for text in [
        "broker = 'pyamqp://guest@localhost//'",
        "broker = 'amqp://a;librabbitmq://b//'",
        "results = 'redis://:p@/1'",
        "keyvalue = 'redis://:p@h/1'",
    ] {
        assert!(usable(vec![layer(text)]).is_ok(), "{text}");
    }
    for (text, reason) in [
        ("broker = 'pyamqps://u:hush@h'", "write amqps://"),
        ("broker = 'amqp://u:pa;hush@h'", "%3B"),
        (
            "broker = 'amqp://u:hush@h?frame_max=x'",
            "frame_max is a whole number",
        ),
        ("results = 'redis://:hush@h/orders'", "\"orders\""),
        ("results = 'db+sqlite:///x'", "no backend for \"db+sqlite\""),
        ("keyvalue = 'redis://:hush@h/orders'", "\"orders\""),
    ] {
        let error = usable(vec![layer(text)]).err().unwrap().to_string();
        assert!(
            error.contains(reason) && !error.contains("hush"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_default_gives_way_to_a_lower_maximum() {
    let config = resolved("[max_limits]\nmemory = '64MiB'\ntime = 600").unwrap();
    let limits = &config.limits;
    assert_eq!(limits.origins.of("limits.memory"), "petiole.toml");
    assert!(!limits.origins.has("limits.time"));
    assert_eq!(
        (limits.limits.memory, limits.limits.time.as_secs()),
        (64 << 20, 300)
    );
    assert_eq!(limits.most.time.as_secs(), 600);
}

#[test]
fn a_task_may_have_no_more_memory_than_there_is_for_all() {
    let small = resolved("concurrency = 4\nmemory_budget = '128MiB'").unwrap();
    let most = small.limits.most.memory;
    assert!(most < 128 << 20, "{most}");
    assert_eq!(small.limits.limits.memory, most);
    let large = resolved("concurrency = 4\nmemory_budget = '64GiB'").unwrap();
    assert_eq!(large.limits.most.memory, 1 << 30);
    let refused = |text| resolved(text).err().unwrap().to_string();
    let error = refused("memory_budget = '1GiB'\nmax_limits = { memory = '2GiB' }");
    assert!(
        error.contains("max_limits.memory 2GiB is more than")
            && error.contains("of memory_budget 1GiB"),
        "{error}"
    );
    assert!(refused("memory_budget = '1MiB'").contains("memory_budget 1MiB"));
}

#[test]
fn tables_of_several_layers_add_up_by_name() {
    let below = layer("[queue_concurrency]\none = 1\ntwo = 2\n[grants.'a.*']\ntemp = '1MiB'");
    let other = "[queue_concurrency]\ntwo = 3\n[grants.'b.*']\nnetworks = ['10.0.0.0/8']";
    let above = super::file::read(Path::new("other.toml"), other, &keys()).unwrap();
    let config = Config::new(vec![below, above]).unwrap();
    let caps = config.worker.queue_concurrency.iter().map(|(queue, cap)| {
        let origin = config.origins().of_entry("queue_concurrency", queue);
        (queue.as_str(), cap.get(), origin)
    });
    let caps: Vec<_> = caps.collect();
    assert_eq!(caps, [("one", 1, "petiole.toml"), ("two", 3, "other.toml")]);
    let globs = config.grants.grants.0.iter().map(|(glob, _)| glob.as_str());
    assert_eq!(globs.collect::<Vec<_>>(), ["b.*", "a.*"]);
}

#[test]
fn what_is_shown_can_be_read_back() {
    let text = "broker = 'amqp://u:secret@h//'\nloglevel = 'debug'\nkeyvalue = 'redis://:secret@h/1'\n\
                [http]\ntoken = '0123456789abcdef'\n[limits]\nhost_calls = 5\n[max_limits]\ndisk = '1GiB'\n\
                [routes]\n'a.*' = 'q'\n'b.*' = { exchange = 'e', routing_key = 'k' }\n\
                [queue_concurrency]\n'a queue' = 2\n[env]\nGREETING = 'hello'\n\
                [secrets]\nPASSWORD = 'secret'\nURL = { file = 'url.txt' }\n[folders]\ndata = 'data'\n\
                [grants.'shop.*']\nsecrets = ['PASSWORD', 'URL']\nhttp = ['GET https://x.example.com']\n\
                folders = { data = 'read-write' }\ntemp = '1MiB'\nclocks = false\nnetworks = ['10.0.0.0/8']\n";
    let shown = resolved_at("/etc/petiole.toml", text).unwrap().show();
    assert!(
        !shown.contains("secret@") && !shown.contains("'secret'") && !shown.contains("\"secret\""),
        "{shown}"
    );
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    assert!(shown.contains("GREETING = \"hello\"") && shown.contains("PASSWORD = \"***\""));
    assert!(
        shown.contains("URL = { file = \"/etc/url.txt\" }"),
        "{shown}"
    );
    let line = |start: &str, end: &str| {
        let mut lines = shown.lines();
        lines.any(|line| line.starts_with(start) && line.ends_with(end))
    };
    assert!(line("loglevel", "# /etc/petiole.toml"), "{shown}");
    assert!(line("results", "# default"), "{shown}");
    assert!(line("GREETING", "# /etc/petiole.toml"), "{shown}");

    let (read, first) = (
        resolved(&shown).unwrap(),
        resolved_at("/etc/petiole.toml", text).unwrap(),
    );
    assert_eq!(read.broker.url.expose(), "amqp://u:***@h//");
    assert_eq!(read.broker.routes, first.broker.routes);
    assert_eq!(read.broker.routes.0.len(), 2);
    assert_eq!(read.grants.folders["data"], Path::new("/etc/data"));
    assert_eq!(read.grants.grants, first.grants.grants);
    assert_eq!(read.limits.limits.host_calls, 5);
    assert_eq!(read.limits.most, first.limits.most);
}

const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn what_is_written_is_read_and_shown() {
    let text = format!(
        "audit = 'audit.jsonl'\napi_ca = '/ca.pem'\n\
         [[http.tokens]]\nname = 'ci'\nsha256 = '{SHA}'\nscopes = ['upload', 'read']\n\
         [http.tls]\ncert = 'tls/cert.pem'\nkey = '/run/key.pem'\nclient_ca = 'ca.pem'\n\
         [signatures]\nkeys = ['keys/team.pub', 'RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3']\n"
    );
    let config = resolved_at("/etc/petiole/petiole.toml", &text).unwrap();
    let (http, modules) = (&config.http, &config.modules);
    assert_eq!(http.cert, Some("/etc/petiole/tls/cert.pem".into()));
    assert_eq!(http.key, Some("/run/key.pem".into()));
    assert_eq!(http.audit, Some("/etc/petiole/audit.jsonl".into()));
    assert_eq!(http.tokens[0].scopes, [Scope::Upload, Scope::Read]);
    assert_eq!(modules.signature_keys.0[0], "/etc/petiole/keys/team.pub");
    assert!(modules.signatures_required && modules.signature_keys.0[1].starts_with("RW"));
    let shown = config.show();
    let again = resolved(&shown).unwrap();
    assert_eq!(again.http.tokens, http.tokens, "{shown}");
    assert_eq!(again.modules.signature_keys.0, modules.signature_keys.0);
    assert_eq!(again.http.client_ca, http.client_ca);
}

#[test]
fn what_can_not_be_used_says_why() {
    let token = |rest: &str| format!("[[http.tokens]]\nname = 'ci'\nsha256 = '{SHA}'\n{rest}");
    let twice = format!(
        "{}\n{}",
        token("scopes = ['read']"),
        token("scopes = ['read']")
    );
    let renamed = twice.replacen("'ci'", "'other'", 1);
    for (text, reason) in [
        (token("scopes = []"), "opens nothing"),
        (
            token("scopes = ['write']"),
            "wants one of upload, read, send, admin",
        ),
        (token(""), "scopes"),
        (twice, "is there twice"),
        (renamed, "the same token"),
        (token("scopes = ['read']").replace("'ci'", "'a b'"), "a b"),
        (
            token("scopes = ['read']").replace(SHA, "abc"),
            "64 hex digits",
        ),
        ("[http.tls]\ncert = 'a'".to_owned(), "needs http.tls.key"),
        ("[http.tls]\nkey = 'a'".to_owned(), "needs http.tls.cert"),
        ("[http.tls]\nclient_ca = 'a'".to_owned(), "there is no TLS"),
        ("api_cert = 'a'".to_owned(), "needs api_key"),
        ("[http]\nrate = 0".to_owned(), "rate"),
        (
            "[signatures]\nrequired = true".to_owned(),
            "no module could be taken",
        ),
    ] {
        let error = resolved(&text).err().unwrap().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}
