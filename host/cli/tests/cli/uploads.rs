//! Tokens, signatures, the audit, and compiling what others wrote.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use super::*;

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn audit(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("audit.jsonl")).unwrap();
    text.lines().map(json_of).collect()
}

#[test]
fn a_token_opens_what_its_scopes_say() {
    let dir = folder();
    let dir = dir.path();
    let made = json_of(&ok(
        dir,
        &["token", "--name", "ci", "--scope", "upload", "--json"],
    ));
    let told = ok(dir, &["token", "--name", "app", "--scope", "send,read"]);
    let (app, rest) = told.split_once('\n').unwrap();
    assert!(app.len() >= 61 && !rest.contains(app), "{told}");
    let (_, entry) = rest.split_once("[[http.tokens]]").unwrap();
    let settings = format!(
        "audit = 'audit.jsonl'\n[[http.tokens]]\nname = 'ci'\nsha256 = '{}'\nscopes = ['upload']\n[[http.tokens]]{entry}",
        made["sha256"].as_str().unwrap()
    );
    fs::write(dir.join("petiole.toml"), settings).unwrap();
    let dev = Dev::start(dir, &["--http", "127.0.0.1:0", "-c", "1"]);
    assert_eq!(dev.token, "", "none is made up where there are some");

    let with = |token: &str, args: &[&str]| {
        let output = petiole(dir, args).env("PETIOLE_TOKEN", token).output();
        let output = output.unwrap();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let ci = made["token"].as_str().unwrap();
    let push = &["push", "my-app.wasm", "--name", "my_app.tasks"];
    let (pushed, said) = with(app, push);
    assert!(
        !pushed && said.contains("one of the scopes upload, admin"),
        "{said}"
    );
    let (pushed, said) = with(ci, push);
    assert!(pushed, "{said}");
    let (listed, said) = with(ci, &["modules", "list"]);
    assert!(
        !listed && said.contains("one of the scopes read, admin"),
        "{said}"
    );
    let (shown, said) = with(app, &["modules", "show", "my_app.tasks"]);
    assert!(shown && said.contains("token ci"), "{said}");
    let (removed, said) = with(app, &["modules", "remove", "my_app.tasks", "--force"]);
    assert!(
        !removed && said.contains("one of the scopes admin"),
        "{said}"
    );

    let entries = audit(dir);
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            let of = |key: &str| entry[key].as_str().unwrap_or_default();
            [of("action"), of("outcome"), of("token"), of("module")]
        })
        .collect();
    assert_eq!(
        found,
        [
            ["request", "refused", "app", ""],
            ["upload", "done", "ci", "my_app.tasks"],
            ["request", "refused", "ci", ""],
            ["request", "refused", "app", ""],
        ]
    );
    let component = fs::read(dir.join("my-app.wasm")).unwrap();
    let digest = petiole_modules::Digest::of(&component).to_string();
    assert_eq!(entries[1]["sha256"], digest.as_str());
    assert_eq!(entries[1]["address"], "127.0.0.1");
    let log = fs::read_to_string(dir.join("dev.log")).unwrap();
    assert!(log.contains("\"action\":\"upload\""), "{log}");
    assert!(!log.contains(ci) && !log.contains(app), "{log}");
}

#[test]
fn what_others_can_reach_is_not_plain() {
    let dir = folder();
    let dir = dir.path();
    let worker = ["worker", "-b", "sqlite://b.db", "--http", "0.0.0.0:0"];
    let start = |plain: &str| {
        let mut command = petiole(dir, &worker);
        command
            .env("PETIOLE_TOKEN", "a-token-of-the-environment")
            .env("PETIOLE_HTTP_PLAIN", plain);
        command
    };
    let output = start("false").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    for part in ["not encrypted", "http.tls.cert", "http.plain = true"] {
        assert!(said.contains(part), "{said}");
    }
    let worker = Dev::spawn(dir, start("true"));
    assert_eq!(get(&worker.url, "/v1/tasks", "").0, 401);
}

#[test]
fn a_token_goes_to_the_worker_alone() {
    let dir = folder();
    let dir = dir.path();
    let dev = Dev::start(dir, &["--http", "127.0.0.1:0", "-c", "1"]);
    let list = |url: &str| {
        let mut command = petiole(dir, &["modules", "list", "--to", url]);
        for proxy in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        command.env("PETIOLE_TOKEN", &dev.token);
        command
    };
    // Not to a proxy: port 1 answers nobody.
    let output = list(&dev.url)
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Not over a network where others can read it, unless told. 0.0.0.0 is this machine, and no loopback address.
    let elsewhere = dev.url.replace("127.0.0.1", "0.0.0.0");
    let output = list(&elsewhere).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["PETIOLE_TOKEN", "0.0.0.0", "https://", "http.plain = true"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains(&dev.token), "{said}");
    let output = list(&elsewhere).env("PETIOLE_HTTP_PLAIN", "true").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A folder whose `petiole.toml` wants signatures by `key`, and the store's URL.
fn signed_folder() -> (tempfile::TempDir, String) {
    let dir = folder();
    let path = dir.path();
    ok(
        path,
        &["sign", "--generate", "--key", "key", "--no-password"],
    );
    ok(
        path,
        &["sign", "--generate", "--key", "other", "--no-password"],
    );
    fs::write(
        path.join("petiole.toml"),
        "audit = 'audit.jsonl'\n[signatures]\nkeys = ['key.pub']\n",
    )
    .unwrap();
    fs::write(path.join("m.toml"), "[defaults]\ntime_limit = 5\n").unwrap();
    let store = format!("file://{}", path.join("store").display());
    (dir, store)
}

#[test]
fn only_what_is_signed_whole_is_taken() {
    let (dir, store) = signed_folder();
    let dir = dir.path();
    let push = |rest: &[&str]| {
        let args = ["push", "my-app.wasm", "--store", &store];
        output(dir, &[&args[..], rest].concat())
    };
    let refused = |rest: &[&str], reason: &str| {
        let output = push(rest);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{rest:?}: {said}");
        assert!(said.contains(reason), "{rest:?}: {said}");
    };
    let with_manifest = ["--name", "a.b", "--manifest", "m.toml"];
    refused(&["--name", "a.b"], "a.b is not signed");

    let sign = |args: &[&str]| ok(dir, &[&["sign", "my-app.wasm"], args].concat());
    sign(&["--key", "key"]);
    assert!(push(&["--name", "a.b"]).status.success());
    refused(&with_manifest, "does not cover the manifest");

    sign(&["--key", "key", "--manifest", "m.toml", "--name", "a.b"]);
    let pushed = push(&with_manifest);
    let said = text(&pushed.stdout);
    assert!(
        pushed.status.success() && said.contains("signed by key"),
        "{said}"
    );
    refused(&["--name", "a.b"], "for another manifest");
    refused(
        &["--name", "c.d", "--manifest", "m.toml"],
        "for module a.b, not for c.d",
    );
    fs::write(dir.join("m.toml"), "[defaults]\ntime_limit = 50\n").unwrap();
    refused(&with_manifest, "for another manifest");

    let signature = fs::read_to_string(dir.join("my-app.wasm.minisig")).unwrap();
    fs::rename(dir.join("my-app.wasm.minisig"), dir.join("aside")).unwrap();
    refused(
        &["--name", "a.b", "--signature", "other"],
        "not in minisign's format",
    );
    fs::write(dir.join("huge"), "x".repeat(5000)).unwrap();
    refused(
        &["--name", "a.b", "--signature", "huge"],
        "the limit is 4096",
    );
    let altered = signature.replacen("timestamp:1", "timestamp:2", 1);
    fs::write(dir.join("altered"), altered).unwrap();
    refused(
        &["--name", "a.b", "--signature", "altered"],
        "or was altered",
    );

    sign(&["--key", "other"]);
    refused(&["--name", "a.b"], "which is not trusted here");
    sign(&["--key", "key"]);
    let mut component = fs::read(dir.join("my-app.wasm")).unwrap();
    // An empty custom section is no other code, but another file.
    component.extend([0, 2, 1, b'x']);
    fs::write(dir.join("my-app.wasm"), component).unwrap();
    refused(&["--name", "a.b"], "not of this component");

    let by: BTreeSet<_> = audit(dir)
        .iter()
        .map(|entry| (entry["outcome"].to_string(), entry["user"].is_string()))
        .collect();
    assert_eq!(
        by.into_iter().collect::<Vec<_>>(),
        [
            ("\"done\"".to_owned(), true),
            ("\"refused\"".to_owned(), true)
        ]
    );
}

#[test]
fn a_manifest_that_is_none_is_refused_and_recorded_by_a_store_too() {
    let (dir, store) = signed_folder();
    let dir = dir.path();
    let large = format!("#{}", "-".repeat(64 << 10));
    for (manifest, reason) in [
        ("[defaults]\nno_such = 1\n", "no_such"),
        (&large, "the manifest has 65537 bytes: the limit is 65536"),
    ] {
        fs::write(dir.join("m.toml"), manifest).unwrap();
        let args = ["push", "my-app.wasm", "--name", "a.b", "--manifest"];
        let output = output(dir, &[&args[..], &["m.toml", "--store", &store]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{said}");
        let entry = audit(dir).pop().unwrap();
        assert_eq!(entry["outcome"], "refused", "{entry}");
        assert!(
            entry["reason"].as_str().unwrap().contains(reason),
            "{entry}"
        );
    }
}

/// Somebody who can write to the store can't make a worker load what no key has signed.
#[test]
fn a_store_that_was_changed_is_not_loaded() {
    let (dir, store) = signed_folder();
    let dir = dir.path();
    ok(
        dir,
        &[
            "sign",
            "my-app.wasm",
            "--key",
            "key",
            "--manifest",
            "m.toml",
        ],
    );
    let push = [
        "push",
        "my-app.wasm",
        "--name",
        "a.b",
        "--manifest",
        "m.toml",
    ];
    ok(dir, &[&push[..], &["--store", &store]].concat());
    let tasks = || ok(dir, &["tasks", "--store", &store]);
    assert!(tasks().contains("a.b.add"));

    let catalog = fs::read_dir(dir.join("store/catalog")).unwrap();
    let newest = catalog.map(|entry| entry.unwrap().path()).max().unwrap();
    let catalog = fs::read_to_string(&newest).unwrap();
    let other = ok(
        dir,
        &[
            "sign",
            "my-app.wasm",
            "--key",
            "other",
            "--manifest",
            "m.toml",
        ],
    );
    let other = fs::read_to_string(dir.join(other.trim())).unwrap();
    let other = serde_json::to_string(&other).unwrap();
    let document = json_of(&catalog);
    let version = &document["modules"][0]["versions"][0];
    let own = version["signature"].to_string();
    for (what, from, to) in [
        (
            "the manifest",
            "\"time_limit\": 5.0",
            "\"time_limit\": 50.0",
        ),
        ("both of them", "time_limit = 5", "time_limit = 6"),
        ("the signature", own.as_str(), other.as_str()),
        ("the name", "\"name\": \"a.b\"", "\"name\": \"c.d\""),
    ] {
        let changed = catalog.replace(from, to);
        assert_ne!(changed, catalog, "{what} is there to be changed");
        fs::write(&newest, changed).unwrap();
        let loaded = tasks();
        // A signature without a module's name is good for any.
        assert_eq!(
            loaded.contains("add"),
            what == "the name",
            "{what}: {loaded}"
        );
    }
    let unsigned = {
        let mut document = document.clone();
        let version = document["modules"][0]["versions"][0]
            .as_object_mut()
            .unwrap();
        version.remove("signature");
        document.to_string()
    };
    fs::write(&newest, unsigned).unwrap();
    assert!(!tasks().contains("add"));
    // Another component under the digest of the first is found out by the digest, whoever signed.
    fs::write(&newest, &catalog).unwrap();
    assert!(tasks().contains("a.b.add"));
    let file = version["digest"].as_str().unwrap();
    fs::write(dir.join(format!("store/components/{file}.wasm")), "else").unwrap();
    assert!(!tasks().contains("add"));
}

/// Components that take the compiler long: how each is made, and what is too little for it.
fn bombs() -> [(&'static str, String); 3] {
    let function = |body: &str| format!("(func (param i32) (result i32) {body} local.get 0)");
    let step = "local.get 0 i32.const 77 i32.xor local.tee 0 local.get 0 i32.mul local.set 0 ";
    let level = "block local.get 0 br_if 0 local.get 0 i32.const 3 i32.mul local.set 0 ";
    let nested = format!("{}{}", level.repeat(50_000), "end ".repeat(50_000));
    [
        ("one large function", function(&step.repeat(400_000))),
        ("many functions", function(&step.repeat(50)).repeat(30_000)),
        ("deep nesting", function(&nested).repeat(12)),
    ]
}

fn component(functions: &str) -> Vec<u8> {
    wat::parse_str(format!(
        "(component (core module $m {functions} (func (export \"f\"))) (core instance $i (instantiate $m)) \
         (func (export \"f\") (canon lift (core func $i \"f\"))))"
    ))
    .unwrap()
}

/// The compilers that this process runs: those of `parent`.
fn compilers(parent: u32) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap();
    let folders = processes.map(|entry| entry.unwrap().path());
    folders
        .filter(|folder| {
            let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            // After the name in parentheses: state, parent.
            let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
            let is_child = rest.split_whitespace().nth(1) == Some(&parent.to_string());
            let command = fs::read(folder.join("cmdline")).unwrap_or_default();
            let is_compiler = command.windows(17).any(|part| part == b"compile-component");
            is_child && (is_compiler || rest.trim_start().starts_with('Z'))
        })
        .collect()
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused_and_nobody_waits() {
    let dir = folder();
    let dir = dir.path();
    fs::write(dir.join("petiole.toml"), "[compile]\ntime = 1\n").unwrap();
    let mut dev = Dev::start(dir, &["my-app.wasm", "--http", "127.0.0.1:0", "-c", "2"]);
    for (what, functions) in bombs() {
        fs::write(dir.join("bomb.wasm"), component(&functions)).unwrap();
        let push = petiole(dir, &["push", "bomb.wasm", "--name", "bomb.tasks"])
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = dev.child.id();
        let compiler = dev.until(dir, "a compiler that has given up its rights", || {
            compilers(pid)
                .into_iter()
                .find(|process| has_no_new_privileges(process))
        });
        confined(&compiler, &dir.join("cache/petiole"));
        // The worker works.
        let send = ["send", "my_app.tasks.add", "--args", "[1, 2]", "--wait"];
        assert_eq!(ok(dir, &send), "3\n", "{what}");
        let output = push.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{what}: {said}");
        assert!(
            said.contains("compiling takes longer than 1s"),
            "{what}: {said}"
        );
        assert_eq!(
            compilers(pid),
            [] as [PathBuf; 0],
            "{what}: it is gone, and no zombie"
        );
        nothing_is_left(&dir.join("cache/petiole"));
    }
    assert!(!ok(dir, &["modules", "list"]).contains("bomb"));
}

#[test]
fn an_upload_is_recorded_though_its_client_hangs_up() {
    let dir = folder();
    let dir = dir.path();
    let settings = "audit = 'audit.jsonl'\n[compile]\ntime = 1\n";
    fs::write(dir.join("petiole.toml"), settings).unwrap();
    let mut dev = Dev::start(dir, &["--http", "127.0.0.1:0", "-c", "1"]);
    let [(_, functions), ..] = bombs();
    let component = component(&functions);
    let head = format!(
        "POST /v1/modules/bomb.tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        dev.token,
        component.len()
    );
    let mut stream = TcpStream::connect(dev.url.trim_start_matches("http://")).unwrap();
    stream
        .write_all(&[head.as_bytes(), &component].concat())
        .unwrap();
    let pid = dev.child.id();
    dev.until(dir, "a compiler", || compilers(pid).pop());
    drop(stream);
    let entry = dev.until(dir, "an entry of the audit", || audit(dir).pop());
    assert_eq!(
        (&entry["action"], &entry["outcome"], &entry["module"]),
        (&"upload".into(), &"refused".into(), &"bomb.tasks".into())
    );
    let reason = entry["reason"].as_str().unwrap();
    assert!(
        reason.contains("compiling takes longer than 1s"),
        "{reason}"
    );
}

fn status_field(process: &Path, name: &str) -> Option<String> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

fn has_no_new_privileges(process: &Path) -> bool {
    status_field(process, "NoNewPrivs:").as_deref() == Some("1")
}

/// Asserts by /proc that the compiler is on its own, with nothing of the worker's, and limited.
fn confined(process: &Path, cache: &Path) {
    let id = process.file_name().unwrap().to_str().unwrap();
    let session = status_field(process, "NSsid:");
    assert_eq!(session.as_deref(), Some(id), "a session of its own");
    assert_eq!(fs::read(process.join("environ")).unwrap_or_default(), b"");
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.map_or_else(String::new, |line| {
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    };
    for (name, most) in [
        ("Max core file size", "0"),
        ("Max open files", "64"),
        ("Max file size", "536870912"),
        ("Max address space", "4294967296"),
    ] {
        assert_eq!(limit(name), most, "{name}\n{limits}");
    }
    assert_ne!(limit("Max cpu time"), "unlimited");
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return;
    };
    for file in files.flatten() {
        let Ok(target) = fs::read_link(file.path()) else {
            continue;
        };
        let shown = target.display().to_string();
        let is_own = ["pipe:", "/dev/null"]
            .iter()
            .any(|start| shown.starts_with(start))
            || target.starts_with(cache.canonicalize().unwrap());
        assert!(is_own, "the compiler holds {shown}");
    }
}

fn nothing_is_left(cache: &Path) {
    for entry in fs::read_dir(cache).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.starts_with("compile-") && !name.starts_with("new-"),
            "{name} is left"
        );
    }
}

#[test]
fn a_component_that_takes_too_much_memory_to_compile_is_refused() {
    let dir = folder();
    let dir = dir.path();
    let store = format!("file://{}", dir.join("store").display());
    fs::write(dir.join("petiole.toml"), "[compile]\nmemory = '400MiB'\n").unwrap();
    for (what, functions) in bombs().into_iter().take(1) {
        fs::write(dir.join("bomb.wasm"), component(&functions)).unwrap();
        let push = [
            "push",
            "bomb.wasm",
            "--name",
            "bomb.tasks",
            "--store",
            &store,
        ];
        let said = fails(dir, 2, &push);
        assert!(
            said.contains("more than 419430400 bytes of memory to compile"),
            "{what}: {said}"
        );
        nothing_is_left(&dir.join("cache/petiole"));
    }
    ok(
        dir,
        &["push", "my-app.wasm", "--name", "a.b", "--store", &store],
    );
}

/// And not with the thread: those of a runtime end at any time.
#[test]
fn the_compiler_ends_with_the_process_that_started_it() {
    let dir = folder();
    let dir = dir.path();
    let [(_, functions), ..] = bombs();
    fs::write(dir.join("input"), component(&functions)).unwrap();
    let memory = (4_u64 << 30).to_string();
    let start = || {
        let command = ["compile-component", "input", "output", "600", &memory];
        let compiler = petiole(dir, &command)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let process = PathBuf::from(format!("/proc/{}", compiler.id()));
        while !has_no_new_privileges(&process) {
            std::thread::sleep(Duration::from_millis(5));
        }
        compiler
    };
    let mut compiler = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(compiler.try_wait().unwrap(), None, "it goes on");
    // As when this process ends.
    drop(compiler.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = compiler.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the compiler goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(71));
    assert!(!dir.join("output").exists());
}

#[test]
fn the_compilers_own_limits_end_it() {
    let dir = folder();
    let dir = dir.path();
    let (_, functions) = bombs().into_iter().next().unwrap();
    fs::write(dir.join("input"), component(&functions)).unwrap();
    let memory = (4_u64 << 30).to_string();
    let done = output(dir, &["compile-component", "input", "output", "1", &memory]);
    // SIGXCPU, the signal of the soft limit on CPU time (setrlimit(2)).
    assert_eq!(done.status.signal(), Some(24), "{}", text(&done.stderr));
    assert!(!dir.join("output").exists());
}
