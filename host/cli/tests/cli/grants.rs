//! Grants: `config check`, `run --manifest`, `push`, `tasks` and `modules show`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::{fails, folder, ok, petiole, text};

const GRANTS: &str = "
[env]
GREETING = 'hello'
HOME_OF = { env = 'OPERATORS_OWN' }

[secrets]
PASSWORD = 'hush-in-the-file'
KEY = { file = 'key.txt' }

[folders]
data = 'data'

[grants.'shop.*']
env = ['GREETING']
secrets = ['PASSWORD']
http = ['GET https://api.example.com']

[grants.'shop.orders']
env = ['HOME_OF']
secrets = ['KEY']
folders = { data = 'read-only' }
";

/// A folder with grants, and what goes with them.
fn folder_with_grants() -> tempfile::TempDir {
    let dir = folder();
    fs::create_dir(dir.path().join("data")).unwrap();
    write_secret(dir.path(), 0o600);
    fs::write(dir.path().join("petiole.toml"), GRANTS).unwrap();
    dir
}

fn write_secret(dir: &Path, mode: u32) {
    fs::write(dir.join("key.txt"), "hush-in-a-file\n").unwrap();
    fs::set_permissions(dir.join("key.txt"), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn config_check_looks_at_what_is_granted_and_shows_no_secret() {
    let dir = folder_with_grants();
    let dir = dir.path();
    let check = |config: &str| {
        let mut command = petiole(dir, &["config", "check", "--config", config]);
        command
            .env("OPERATORS_OWN", "of-the-operator")
            .output()
            .unwrap()
    };
    let shown = check("petiole.toml");
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    for part in [
        "GREETING = \"hello\"",
        "HOME_OF = { env = \"OPERATORS_OWN\" }",
        "PASSWORD = \"***\"",
        "/key.txt\" }",
        "[grants.\"shop.*\"]",
        "http = [\"GET https://api.example.com",
        "folders = { data = \"read-only\" }",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(
        !shown.contains("hush") && !shown.contains("of-the-operator"),
        "{shown}"
    );
    fs::write(dir.join("again.toml"), &shown).unwrap();
    assert!(check("again.toml").status.success());

    let wrong = |text_of_file: &str, reasons: &[&str]| {
        fs::write(dir.join("wrong.toml"), text_of_file).unwrap();
        let output = check("wrong.toml");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text_of_file}: {stderr}");
        for reason in [&["wrong.toml"], reasons].concat() {
            assert!(stderr.contains(reason), "{text_of_file}: {stderr}");
        }
        assert!(!stderr.contains("hush"), "{stderr}");
    };
    wrong(
        "[folders]\ndata = 'nowhere'\n",
        &["folders.data", "/nowhere is not a folder"],
    );
    wrong(
        "[env]\nX = { env = 'NOBODY_SET_IT' }\n",
        &["env.X", "NOBODY_SET_IT is not set"],
    );
    wrong(
        "[secrets]\nX = { credential = 'x' }\n",
        &["secrets.X", "CREDENTIALS_DIRECTORY", "LoadCredential"],
    );
    wrong(
        "[grants.'*']\nsecrets = ['X']\n",
        &["grants.\"*\"", "X", "[secrets]"],
    );
    wrong(
        "[grants.'*']\nkeyvalue = true\n",
        &["grants.\"*\"", "set keyvalue"],
    );
    wrong("[grants.'*']\nhttp = ['ftp://x']\n", &["line ", "ftp"]);
    wrong("[secrets]\nX = hush\n", &["line 2"]);
    write_secret(dir, 0o644);
    wrong(
        "[secrets]\nX = { file = 'key.txt' }\n",
        &["secrets.X", "mode 644", "chmod 600"],
    );
}

#[test]
fn a_run_is_given_what_a_worker_of_this_configuration_would_give() {
    let dir = folder_with_grants();
    let dir = dir.path();
    let manifest = "[capabilities]\nenv = ['GREETING', 'HOME_OF']\nsecrets = ['PASSWORD', 'KEY']\n";
    fs::write(dir.join("all.toml"), manifest).unwrap();
    fs::write(dir.join("limits.toml"), "[defaults]\ntime_limit = 0.2\n").unwrap();
    fs::write(dir.join("much.toml"), "[defaults]\nmemory = '2GiB'\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = petiole(
            dir,
            &[&["run", "capable.wasm", "environment"], args].concat(),
        );
        let output = command.env("OPERATORS_OWN", "theirs").output().unwrap();
        (text(&output.stdout), text(&output.stderr))
    };
    let environment = |args: &[&str]| {
        let (stdout, stderr) = run(args);
        let pairs: Vec<(String, String)> =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        (pairs.into_iter().collect::<BTreeMap<_, _>>(), stderr)
    };
    let all = [
        ("GREETING", "hello"),
        ("HOME_OF", "theirs"),
        ("KEY", "hush-in-a-file"),
        ("PASSWORD", "hush-in-the-file"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));

    // Everything asked for and granted; nothing without a manifest, nor for a module that no grant is for.
    let (given, stderr) = environment(&["--name", "shop.orders", "--manifest", "all.toml"]);
    assert_eq!(given, all.clone().into());
    assert_eq!(stderr, "");
    let (given, stderr) = environment(&["--name", "shop.other", "--manifest", "all.toml"]);
    assert_eq!(given.keys().collect::<Vec<_>>(), ["GREETING", "PASSWORD"]);
    assert!(
        stderr.contains("refused: env HOME_OF, secret KEY")
            && stderr.contains("[grants.\"shop.other\"]"),
        "{stderr}"
    );
    assert_eq!(environment(&["--name", "shop.orders"]).0.len(), 0);
    assert_eq!(environment(&["--manifest", "all.toml"]).0.len(), 0);

    let (_, used) = environment(&["--verbose"]);
    for part in ["used: ", " s on a CPU", " bytes of memory", "1 host calls"] {
        assert!(used.contains(part), "{used}");
    }
    // The manifest's limits count, up to the configuration's.
    let spin = ["run", "my-app.wasm", "spin", "--manifest", "limits.toml"];
    let ended = petiole(dir, &spin)
        .env("OPERATORS_OWN", "x")
        .output()
        .unwrap();
    assert!(
        text(&ended.stderr).contains("TimeLimitExceeded(0.2)"),
        "{}",
        text(&ended.stderr)
    );
    let (_, stderr) = run(&["--manifest", "much.toml"]);
    assert!(
        stderr.contains("2GiB") && stderr.contains("max_limits.memory"),
        "{stderr}"
    );
}

#[test]
fn push_tells_what_is_asked_for_granted_and_refused() {
    let dir = folder_with_grants();
    let dir = dir.path();
    // A push to a store needs no secret: neither this file nor the variable can be read.
    fs::remove_file(dir.join("key.txt")).unwrap();
    let manifest = "[capabilities]\nenv = ['GREETING']\nsecrets = ['KEY', 'OTHER']\n\
                    http = ['https://api.example.com']\n[tasks.environment]\nmemory = '64MiB'\n";
    fs::write(dir.join("manifest.toml"), manifest).unwrap();
    let push = [
        "push",
        "capable.wasm",
        "--manifest",
        "manifest.toml",
        "--store",
        "file://store",
    ];
    let pushed = ok(dir, &[&push[..], &["--name", "shop.orders"]].concat());
    for part in [
        "shop.orders.environment() -> list<tuple<string, string>>",
        "asks for: env GREETING, secret KEY, secret OTHER, http https://api.example.com\n",
        "granted: env GREETING, secret KEY, http GET https://api.example.com",
        "refused: secret OTHER, http ",
        "[grants.\"shop.orders\"]",
    ] {
        assert!(pushed.contains(part), "no {part:?} in {pushed}");
    }
    let pushed = ok(
        dir,
        &[&push[..], &["--name", "shop.json", "--json"]].concat(),
    );
    let pushed: Value = serde_json::from_str(&pushed).unwrap();
    let task = &pushed["tasks"][0];
    assert_eq!(
        task["capabilities"]["asked"]["secrets"],
        json!(["KEY", "OTHER"])
    );
    assert_eq!(task["capabilities"]["granted"]["env"], json!(["GREETING"]));
    assert_eq!(task["capabilities"]["refused"][0], "secret KEY");
    assert_eq!(task["limits"]["memory"], 64 << 20);
    assert_eq!(task["limits"]["time"], 300.0);

    let tasks = ok(dir, &["tasks", "shop.orders.*", "--store", "file://store"]);
    for part in [
        "granted: env GREETING",
        "refused: secret OTHER",
        "limits: memory 64MiB",
        "time 300 s",
    ] {
        assert!(tasks.contains(part), "no {part:?} in {tasks}");
    }
    assert!(!ok(dir, &["tasks", "--store", "file://store"]).contains("granted"));
    let module = ok(
        dir,
        &["modules", "show", "shop.orders", "--store", "file://store"],
    );
    assert!(
        module.contains("manifest of version 1") && module.contains("\"KEY\""),
        "{module}"
    );
    fs::write(dir.join("much.toml"), "[defaults]\nmax_requests = 100001\n").unwrap();
    let push = [
        "push",
        "my-app.wasm",
        "--manifest",
        "much.toml",
        "--store",
        "file://store",
    ];
    let refused = fails(dir, 2, &[&push[..], &["--name", "shop.much"]].concat());
    assert!(
        refused.contains("max_requests") && refused.contains("max_limits.requests"),
        "{refused}"
    );
}

#[test]
fn an_import_without_a_grant_is_refused_and_whose_turn_it_is() {
    let dir = folder_with_grants();
    let dir = dir.path();
    let component = |imports: &str| {
        let imports = imports
            .split_whitespace()
            .map(|name| format!("(import \"{name}\" (instance (export \"f\" (func))))"));
        let guest =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest.wat"));
        let imports = format!("(component {}", imports.collect::<String>());
        wat::parse_str(guest.unwrap().replacen("(component", &imports, 1)).unwrap()
    };
    let imports =
        "wasi:http/outgoing-handler@0.2.0 wasi:keyvalue/store@0.2.0-draft2 acme:gpu/run@1.0.0";
    fs::write(dir.join("importing.wasm"), component(imports)).unwrap();
    fs::write(dir.join("asking.toml"), "[capabilities]\nkeyvalue = true\n").unwrap();
    let said = [
        // The operator allows http; the author allows for keyvalue.
        "outgoing-handler@0.2.0: needs `http`: ask for it in the manifest",
        "store@0.2.0-draft2: needs `keyvalue`: the manifest asks for it",
        "`keyvalue` under [grants.\"shop.orders\"]",
        "acme:gpu/run@1.0.0: no capability grants it",
    ];
    let manifest = ["--name", "shop.orders", "--manifest", "asking.toml"];
    for command in [
        &["push", "importing.wasm", "--store", "file://store"][..],
        &["run", "importing.wasm", "add", "--args", "[1, 2]"],
    ] {
        let mut command = petiole(dir, &[command, &manifest].concat());
        let refused = command.env("OPERATORS_OWN", "x").output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let stderr = text(&refused.stderr);
        for part in said {
            assert!(stderr.contains(part), "no {part:?} in {stderr}");
        }
    }
    let listed = ok(
        dir,
        &["modules", "list", "--store", "file://store", "--json"],
    );
    assert_eq!(listed, "[]\n");
}
