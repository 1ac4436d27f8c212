//! Wrong values of the file and of the environment.

use std::cell::RefCell;
use std::ffi::OsString;

use super::super::broker::Route;
use super::super::values::{Place, Source};
use super::super::*;
use super::resolved_at;

fn layer(path: &str, text: &str) -> Result<Layer, ConfigError> {
    file::read(Path::new(path), text, &keys())
}

/// Words of Rust and serde, which say nothing to whoever writes a file.
const OF_RUST: &[&str] = &[
    "expected", "invalid", "struct", "enum", "variant", "field", "u16", "u32", "u64", "f64",
    "usize", "nonzero", "non-zero", "borrowed", "sequence", "map", "boolean", "string", "tuple",
    "digit", "syntax", "parse", "hush",
];

fn check_words(what: &str, error: &str) {
    let mut words = error.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let of_rust = words.find(|word| OF_RUST.contains(word));
    assert_eq!(of_rust, None, "{what}: {error}");
}

/// Every setting of the file, tables with an entry.
fn settings() -> Vec<String> {
    let keys = keys().into_iter().filter(|key| !key.kind.is_table());
    let mut names: Vec<_> = keys.map(|key| key.path).collect();
    let more = [
        "routes",
        "routes.x",
        "queue_concurrency",
        "queue_concurrency.x",
        "env",
        "env.X",
        "secrets",
        "secrets.X",
        "folders",
        "folders.x",
        "grants",
        "grants.x",
        "grants.x.env",
        "grants.x.http",
        "grants.x.tcp",
        "grants.x.keyvalue",
        "grants.x.folders",
        "grants.x.folders.x",
        "grants.x.temp",
        "grants.x.clocks",
        "grants.x.networks",
        "http",
        "http.tls",
        "signatures",
        "limits",
        "max_limits",
        "retry",
        "compile",
    ];
    names.extend(more.map(str::to_owned));
    names
}

#[test]
fn a_wrong_value_in_the_file_is_told_without_words_of_rust() {
    let values = [
        "'hush'",
        "['hush']",
        "[[1]]",
        "{ key = 'hush' }",
        "{}",
        "-1",
        "0",
        "1.5",
        "nan",
        "99999999999",
        "99999999999999999999",
        "true",
        "{ debug = 1 }",
        "{ debug = {} }",
        "2026-11-22",
        "[{ name = 'hush' }]",
    ];
    for name in settings() {
        let mut refused = 0;
        for value in values {
            let text = format!("\n{name} = {value}\n");
            let Err(error) = layer("petiole.toml", &text) else {
                continue;
            };
            refused += 1;
            let error = error.to_string();
            let place = format!("petiole.toml: line 2: {name}");
            assert!(error.starts_with(&place), "{text}: {error}");
            check_words(
                &text,
                &error
                    .replace(&name, "")
                    .replace("no such setting here; there are", "")
                    .replace("\"hush\" is no rule", ""),
            );
        }
        assert!(refused > 2, "{name} takes anything");
    }
}

#[test]
fn a_wrong_value_in_the_environment_is_told_without_words_of_rust() {
    let names = RefCell::new(Vec::new());
    env::read(&keys(), |name| {
        names.borrow_mut().push(name.to_owned());
        None
    })
    .unwrap();
    for name in names.into_inner() {
        for value in ["x y", "-1", "1.5", "99999999999", "http://u:hush@h"] {
            let var = |asked: &str| (asked == name).then(|| OsString::from(value));
            if let Err(error) = env::read(&keys(), var) {
                let error = error.to_string();
                assert!(error.contains(&name), "{error}");
                check_words(&format!("{name}={value}"), &error);
            }
        }
    }
}

#[test]
fn what_is_wanted_and_what_there_is_are_told() {
    for (text, said) in [
        (
            "concurrency = 'hush'",
            "line 1: concurrency: wants a whole number from 1 to 65535, and is a text",
        ),
        (
            "concurrency = 0",
            "line 1: concurrency: wants a whole number from 1 to 65535, and is another number",
        ),
        (
            "broker = 5",
            "line 1: broker: wants a text, and is a number",
        ),
        (
            "queues = 'hush'",
            "line 1: queues: wants a list, and is a text",
        ),
        (
            "queues = [\n 'a',\n 5,\n]",
            "line 3: queues: wants a text, and is a number",
        ),
        (
            "[http]\naddr = 'hush'",
            "line 2: http.addr: wants an IP address with its port, for example 127.0.0.1:8000, and is a text",
        ),
        (
            "http.tls.cert = []",
            "line 1: http.tls.cert: wants a path, and is a list",
        ),
        (
            "[http]\nrate = 1.5",
            "line 2: http.rate: wants a whole number from 1 to 4294967295, and is a number with a fraction",
        ),
        (
            "[limits]\ntime = 'hush'",
            "line 2: limits.time: wants a number of seconds, for example 30, and is a text",
        ),
        (
            "retry = { max = true }",
            "line 1: retry.max: wants a whole number from 0 to 4294967295, and is true",
        ),
        (
            "log_format = 'hush'",
            "line 1: log_format: wants one of plain, json, and is another text",
        ),
        (
            "memory_budget = 'hush'",
            "line 1: memory_budget: is not a size, for example",
        ),
        (
            "grants.x.http = ['hush']",
            "line 1: grants.x.http: \"hush\" is no rule: it is written",
        ),
        (
            "[[http.tokens]]\nname = 'ci'",
            "line 1: http.tokens: sha256 is missing",
        ),
        (
            "[[http.tokens]]\nname = 'ci'\nsha256 = 'mine is not hush'\nscopes = ['read']",
            "line 3: http.tokens.sha256: is not a sha256",
        ),
        (
            "[http]\nadr = 'hush'",
            "line 2: http.adr: there is no such setting here; there are addr, token, ",
        ),
        (
            "[routes]\n'a.*' = {exchange='e', routing_key='k', queue='q'}",
            "line 2: routes.a.*: wants a queue name, or {",
        ),
        (
            "[routes]\n'a.*' = 5",
            "line 2: routes.a.*: wants a queue name, or {",
        ),
    ] {
        let error = layer("petiole.toml", text).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("petiole.toml: {said}")),
            "{text}: {error}"
        );
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    for (text, key) in [
        ("broker = 'amqp://x'\nbrokr = 1\n", "brokr"),
        ("[http]\nadr = 'x'\n", "adr"),
    ] {
        let error = layer("petiole.toml", text).err().unwrap().to_string();
        assert!(
            error.contains(key) && error.contains("line 2") && error.contains("petiole.toml"),
            "{error}"
        );
    }
}

#[test]
fn an_error_quotes_no_value() {
    for (text, line) in [
        ("[secrets]\nKEY = 'hush\n", "line 2"),
        (
            "[secrets]\nKEY = { file = 'hush', more = 'hush' }\n",
            "line 2: secrets.KEY: wants a text, {",
        ),
        (
            "[secrets]\nA = 'x'\nKEY = ['hush']\n",
            "line 3: secrets.KEY: wants a text, {",
        ),
        (
            "[secrets]\nKEY = \"\"\"hush\nhush = hush\\q\n\"\"\"\n",
            "line 3",
        ),
        ("broker = 'amqp://u:hush@h' x\n", "line 1"),
        (
            "secrets = 'hush'\n",
            "line 1: secrets: wants a table, and is a text",
        ),
        (
            "[http]\ntoken = ['hush']\n",
            "line 2: http.token: wants a text, and is a list",
        ),
    ] {
        let error = layer("f", text).err().unwrap().to_string();
        let value = error.replace("hush: ", "");
        assert!(
            error.contains(line) && !value.contains("hush"),
            "{text}: {error}"
        );
    }
}

#[test]
fn paths_start_at_the_file() {
    let text = "[folders]\ndata = 'data'\nabsolute = '/srv/x'\n[secrets]\nS = { file = '../s' }";
    let config = resolved_at("/etc/petiole/petiole.toml", text).unwrap();
    let folders = &config.grants.folders;
    assert_eq!(folders["data"], Path::new("/etc/petiole/data"));
    assert_eq!(folders["absolute"], Path::new("/srv/x"));
    let secret = Source::At(Place::File("/etc/petiole/../s".into()));
    assert_eq!(config.grants.secrets["S"], secret);
}

#[test]
fn routes_keep_their_order() {
    let text = "[routes]\n'z.*' = 'one'\n'a.*' = {exchange='e', routing_key='k'}\n";
    let config = resolved_at("f", text).unwrap();
    let exchange = Route::Exchange {
        exchange: "e".into(),
        routing_key: "k".into(),
    };
    assert_eq!(
        config.broker.routes.0,
        [
            ("z.*".to_owned(), Route::Queue("one".into())),
            ("a.*".to_owned(), exchange)
        ]
    );
}

/// A key with a dot in it is not the setting of that path.
#[test]
fn a_quoted_key_is_one_name() {
    let error = layer("f", "'http.addr' = 'x'").err().unwrap().to_string();
    assert!(error.contains("no such setting"), "{error}");
}
