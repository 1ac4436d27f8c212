//! The ends of calls.

use super::*;

/// The SDK adds nothing for it: the message is what Rust's standard library writes to stderr.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_tells() {
    let module = HOST.load(&costs::component("probe")).await.unwrap();
    let outcome = call(&module, "trap", json!([])).await;
    assert_eq!(failure(&outcome), own("Panic", "probe was told to trap"));
    let Outcome::Failure { traceback, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let traceback = traceback.unwrap();
    let (words, stack) = traceback.split_once("\nwasm stack:\n").unwrap();
    assert!(
        words.contains("src/hostile.rs:11:5:\nprobe was told to trap"),
        "{words}"
    );
    assert!(stack.starts_with("    0: "), "{stack}");
}

#[tokio::test]
async fn values_come_back() {
    let module = HOST.guest().await;
    for (task, args, result) in [
        ("add", json!([2, 3]), json!(5)),
        (
            "add",
            json!(["9007199254740993", -1]),
            json!(9_007_199_254_740_992_i64),
        ),
        ("echo", json!(["grün"]), json!("grün")),
        ("echo_bytes", json!([[0, 255, 7]]), json!("AP8H")),
        ("echo_bytes", json!(["AP8H"]), json!("AP8H")),
        (
            "echo_bytes",
            json!([{"__type__": "bytes", "__value__": "hi"}]),
            json!("aGk="),
        ),
        ("maybe", json!([1]), json!(0)),
        ("maybe", json!([1, 5]), json!(1)),
        ("my_id", json!([]), json!("3f1b")),
        ("say", json!(["hello"]), json!(null)),
    ] {
        assert_eq!(
            call(&module, task, args).await,
            Outcome::Success(result),
            "{task}"
        );
    }
}

#[tokio::test]
async fn each_call_has_a_fresh_store() {
    let module = HOST.guest().await;
    for _ in 0..3 {
        assert_eq!(
            call(&module, "count", json!([])).await,
            Outcome::Success(json!(1))
        );
    }
}

/// Each with a memory of its own: wasmtime's code between them needs several memories at once.
#[tokio::test]
async fn components_that_are_composed_of_others_run() {
    let wasm = wat::parse_str(
        r#"(component
          (component $inner
            (core module $m (memory (export "memory") 1)
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
              (func (export "echo") (param i32 i32) (result i32)
                (i32.store (i32.const 16) (local.get 0))
                (i32.store (i32.const 20) (local.get 1))
                (i32.const 16)))
            (core instance $i (instantiate $m))
            (func (export "echo") (param "text" string) (result string)
              (canon lift (core func $i "echo") (memory $i "memory") (realloc (func $i "realloc")))))
          (component $outer
            (import "echo" (func $echo (param "text" string) (result string)))
            (core module $libc (memory (export "memory") 1)
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 2048)))
            (core instance $libc (instantiate $libc))
            (core func $echo (canon lower (func $echo)
              (memory $libc "memory") (realloc (func $libc "realloc"))))
            (core module $m
              (import "host" "echo" (func $echo (param i32 i32 i32)))
              (func (export "run") (param i32 i32) (result i32)
                (call $echo (local.get 0) (local.get 1) (i32.const 32))
                (i32.const 32)))
            (core instance $i (instantiate $m
              (with "host" (instance (export "echo" (func $echo))))))
            (func (export "run") (param "text" string) (result string)
              (canon lift (core func $i "run")
                (memory $libc "memory") (realloc (func $libc "realloc")))))
          (instance $a (instantiate $inner))
          (instance $b (instantiate $outer (with "echo" (func $a "echo"))))
          (export "run" (func $b "run")))"#,
    )
    .unwrap();
    let module = HOST.load(&wasm).await.unwrap();
    let run = call_with(&module, "run", json!(["through both"]), LIMITS).await;
    assert_eq!(run.outcome, Outcome::Success(json!("through both")));
    assert_eq!(run.usage.peak_memory, 2 * 64 * 1024);
}

#[tokio::test]
async fn an_err_is_a_failure() {
    let module = HOST.guest().await;
    let fail = call(&module, "fail", json!(["no such shop"])).await;
    assert_eq!(failure(&fail), own("TaskError", "no such shop"));
    let find = call(&module, "find", json!([0])).await;
    assert_eq!(failure(&find), ("NotFound", vec![], "petiole.exceptions"));
    let find = call(&module, "find", json!([1])).await;
    assert_eq!(failure(&find), ("TooBig", vec![], "petiole.exceptions"));
}

#[tokio::test]
async fn a_trap_is_a_failure_with_the_guests_stack() {
    let module = HOST.guest().await;
    let outcome = call(&module, "crash", json!([])).await;
    assert_eq!(
        failure(&outcome),
        own("WasmTrap", "wasm `unreachable` instruction executed")
    );
    let Outcome::Failure {
        traceback: Some(traceback),
        ..
    } = outcome
    else {
        panic!("no traceback")
    };
    assert!(traceback.ends_with("!shop::orders::crash"), "{traceback}");

    let outcome = call(&module, "exit", json!([])).await;
    assert_eq!(failure(&outcome), own("GuestExit", 1));
    let outcome = call(&module, "garble", json!([])).await;
    assert_eq!(failure(&outcome).0, "WasmTrap");
}

#[tokio::test]
async fn progress_is_seen_while_it_lasts() {
    let module = HOST.guest().await;
    let task = module.task("report").unwrap();
    let (progress, seen) = watch::channel(None);
    let arguments = task
        .bind(
            &[json!("PROGRESS"), json!(r#"{"done": 3}"#)],
            &Map::new(),
            LIMITS.arguments,
        )
        .unwrap();
    let run = task
        .call(
            arguments,
            context(),
            LIMITS,
            &Arc::new(Granted::none()),
            &progress,
        )
        .await
        .unwrap();
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    let expected = Progress {
        state: State::Custom("PROGRESS".to_owned()),
        meta: json!({"done": 3}),
    };
    assert_eq!(*seen.borrow(), Some(expected));
    for (state, meta) in [
        ("SUCCESS", "1"),
        ("PROGRESS", "{"),
        ("half way", "1"),
        ("", "1"),
    ] {
        let outcome = call(&module, "report", json!([state, meta])).await;
        assert_eq!(failure(&outcome).0, "TaskError", "{state} {meta}");
    }
    let meta = format!("\"{}\"", "x".repeat(256 * 1024));
    let limits = Limits {
        result: MIB,
        ..LIMITS
    };
    let run = call_with(&module, "report", json!(["PROGRESS", meta]), limits).await;
    let message = "meta of 262146 bytes is larger than the limit of 262144";
    assert_eq!(failure(&run.outcome), own("TaskError", message));
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_task_says_is_logged_with_its_id() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let module = HOST.guest().await;
    let _guard = tracing::subscriber::set_default(subscriber);
    call(&module, "say", json!(["one\u{7}two\u{2028}three\u{202e}"])).await;
    let limits = Limits { log: 16, ..LIMITS };
    let run = call_with(&module, "say", json!(["sixteen bytes ok|dropped"]), limits).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains(r#"WARN petiole::task: one\u{7}two\u{2028}three\u{202e} task_id="3f1b""#),
        "{text}"
    );
    assert!(
        text.contains("sixteen bytes ok ") && !text.contains("dropped"),
        "{text}"
    );
    assert_eq!(run.usage.log, 16);
    assert_eq!(run.limit, Some(Limit::Log));
    let message = "log limit of 16 bytes exceeded: the task wrote 72 bytes";
    assert_eq!(failure(&run.outcome), own("LogLimitExceeded", message));
}

#[tokio::test]
async fn an_exhausted_pool_is_a_host_fault() {
    let host = host(1);
    let module = host.guest().await;
    let progress = watch::Sender::new(None);
    let add = module.task("add").unwrap();
    let nothing = Arc::new(Granted::none());
    let add = add.call(
        add.bind(&[json!(1), json!(2)], &Map::new(), LIMITS.arguments)
            .unwrap(),
        context(),
        LIMITS,
        &nothing,
        &progress,
    );
    tokio::select! {
        biased;
        run = call(&module, "spin", json!([])) => panic!("{run:?}"),
        run = add => assert!(matches!(run, Err(HostFault::PoolExhausted { .. })), "{run:?}"),
    }
    // the spinning call was dropped: its slot is free again
    assert_eq!(
        call(&module, "count", json!([])).await,
        Outcome::Success(json!(1))
    );
}
