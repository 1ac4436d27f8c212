//! Limits of a guest, and the errors of one that wants more.

use super::*;

async fn hungry() -> Module {
    HOST.load(&wat("limits.wat")).await.unwrap()
}

/// The task runs into this limit and fails with this exception of Petiole's own.
async fn assert_ends(
    module: &Module,
    (task, args): (&str, Value),
    limits: Limits,
    (limit, message): (Limit, &str),
) -> Run {
    let run = call_with(module, task, args, limits).await;
    let expected = own(limit.exception(), message);
    assert_eq!(failure(&run.outcome), expected, "{task}");
    assert_eq!(run.limit, Some(limit), "{task}");
    run
}

#[tokio::test]
async fn time_limits_end_guests_that_compute_and_guests_that_wait() {
    let module = HOST.guest().await;
    let limits = Limits {
        time: Duration::from_millis(50),
        ..LIMITS
    };
    for (task, args) in [
        ("spin", json!([])),
        ("sleep", json!([3_600_000_000_000_u64])),
    ] {
        let run = call_with(&module, task, args, limits).await;
        let expected = (
            "TimeLimitExceeded",
            vec![json!(0.05)],
            "billiard.exceptions",
        );
        assert_eq!(failure(&run.outcome), expected, "{task}");
        assert_eq!(run.limit, Some(Limit::Time));
        let cpu = run.usage.cpu.as_secs_f64() / run.usage.wall.as_secs_f64();
        println!("{task}: {cpu:.3} of the wall time on a CPU");
        if task == "sleep" {
            assert!(cpu < 0.5, "{:?}", run.usage);
        }
    }
    assert_eq!(
        call(&module, "sleep", json!([1])).await,
        Outcome::Success(json!(null))
    );
    let limits = Limits {
        time: Duration::from_secs(1),
        ..LIMITS
    };
    let outcome = call_with(&module, "spin", json!([]), limits).await.outcome;
    assert_eq!(failure(&outcome).1, vec![json!(1)]);
    let Outcome::Failure {
        traceback: Some(traceback),
        ..
    } = outcome
    else {
        panic!("no traceback")
    };
    assert!(traceback.contains("spin"), "{traceback}");
}

#[tokio::test]
async fn cpu_time_is_bounded_and_counted() {
    let module = HOST.guest().await;
    let limits = Limits {
        cpu_time: Duration::from_millis(50),
        ..LIMITS
    };
    let run = call_with(&module, "spin", json!([]), limits).await;
    let (exc_type, args, _) = failure(&run.outcome);
    let said = args[0].as_str().unwrap();
    assert_eq!(exc_type, "CpuTimeLimitExceeded");
    assert!(
        said.starts_with("CPU time limit of 0.05 s exceeded: the task used 0.0"),
        "{said}"
    );
    assert_eq!(run.limit, Some(Limit::CpuTime));
    assert!(run.usage.cpu >= limits.cpu_time && run.usage.cpu <= run.usage.wall);
    // a guest that waits uses none
    let run = call_with(&module, "sleep", json!([100_000_000]), limits).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    assert!(run.usage.wall >= Duration::from_millis(100));
    assert!(run.usage.cpu < limits.cpu_time, "{:?}", run.usage);
}

/// The clock runs while a component starts, and time is up then too.
#[tokio::test]
async fn limits_hold_while_a_component_is_instantiated() {
    let spins = component(
        r#"(core module $s (func $spin (loop $again (br $again))) (start $spin))
        (core instance (instantiate $s)) (export "r" (func $f))"#,
    );
    let module = HOST.load(&spins).await.unwrap();
    let short = Duration::from_millis(20);
    let limits = Limits {
        cpu_time: short,
        ..LIMITS
    };
    let run = call_with(&module, "r", json!([]), limits).await;
    assert_eq!(run.limit, Some(Limit::CpuTime), "{run:?}");
    let limits = Limits {
        time: short,
        ..LIMITS
    };
    let run = call_with(&module, "r", json!([]), limits).await;
    assert_eq!(run.limit, Some(Limit::Time), "{run:?}");

    let crashes = component(
        r#"(core module $s (func $crash unreachable) (start $crash))
        (core instance (instantiate $s)) (export "r" (func $f))"#,
    );
    let module = HOST.load(&crashes).await.unwrap();
    let run = call_with(&module, "r", json!([]), LIMITS).await;
    assert_eq!(failure(&run.outcome).0, "WasmTrap");
    let recurses = component(
        r#"(core module $s (func $again (call $again)) (start $again))
        (core instance (instantiate $s)) (export "r" (func $f))"#,
    );
    let module = HOST.load(&recurses).await.unwrap();
    let target = ("r", json!([]));
    let expected = (Limit::Stack, "call stack exhausted");
    assert_ends(&module, target, LIMITS, expected).await;
    let large = component(
        r#"(core module $s (memory 60) (table 500 funcref))
        (core instance (instantiate $s)) (core instance (instantiate $s)) (export "r" (func $f))"#,
    );
    let module = HOST.load(&large).await.unwrap();
    let target = ("r", json!([]));
    let expected = (
        Limit::Memory,
        "memory limit of 4 MiB exceeded: the task asked for 7680 KiB",
    );
    assert_ends(&module, target.clone(), LIMITS, expected).await;
    let limits = Limits {
        memory: 8 * MIB,
        table_elements: 900,
        ..LIMITS
    };
    let expected = (
        Limit::TableElements,
        "table limit of 900 elements exceeded: the task asked for 1000",
    );
    assert_ends(&module, target, limits, expected).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_soft_limit_is_told_and_logged_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let module = hungry().await;
    let _guard = tracing::subscriber::set_default(subscriber);
    let soft = Some(Duration::from_millis(20));
    let wall = Limits {
        soft_time: soft,
        ..LIMITS
    };
    let cpu = Limits {
        soft_cpu_time: soft,
        ..LIMITS
    };
    for (limits, sleeps, said) in [
        (
            wall,
            true,
            "Soft time limit (0.02s) exceeded for my_app.tasks.t[3f1b]",
        ),
        (
            wall,
            false,
            "Soft time limit (0.02s) exceeded for my_app.tasks.t[3f1b]",
        ),
        (
            cpu,
            false,
            "Soft CPU time limit (0.02s) exceeded for my_app.tasks.t[3f1b]",
        ),
    ] {
        let run = call_with(&module, "until_soft_limit", json!([sleeps]), limits).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)));
        assert_eq!(run.limit, None);
        assert!(run.usage.wall >= Duration::from_millis(20));
        let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        assert_eq!(text.matches(said).count(), 1, "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    // one that never asks is warned about as well
    let module = HOST.guest().await;
    call_with(&module, "sleep", json!([50_000_000]), wall).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("Soft time limit (0.02s)"), "{text}");
}

/// On one thread, a guest that never ends does not keep another from running.
#[tokio::test(flavor = "current_thread")]
async fn guests_take_turns() {
    let module = HOST.guest().await;
    tokio::select! {
        biased;
        run = call(&module, "spin", json!([])) => panic!("{run:?}"),
        sum = call(&module, "add", json!([1, 2])) => assert_eq!(sum, Outcome::Success(json!(3))),
    }
}

#[tokio::test]
async fn memory_is_bounded_and_counted() {
    let module = HOST.guest().await;
    let expected = (
        Limit::Memory,
        "memory limit of 4 MiB exceeded: the task asked for 4160 KiB; then: wasm `unreachable` instruction executed",
    );
    let run = assert_ends(&module, ("grow", json!([64])), LIMITS, expected).await;
    assert_eq!(run.usage.peak_memory, 64 * 1024);

    let run = call_with(&module, "grow", json!([63]), LIMITS).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    assert_eq!((run.usage.peak_memory, run.limit), (4 * MIB, None));
    // a guest that can do without gets its -1
    assert_eq!(
        call(&module, "try_grow", json!([64])).await,
        Outcome::Success(json!(false))
    );
    assert_eq!(
        call(&module, "try_grow", json!([63])).await,
        Outcome::Success(json!(true))
    );

    let expected = (
        Limit::TableElements,
        "table limit of 400000 elements exceeded: the task asked for 2000001; then: wasm `unreachable` instruction \
         executed",
    );
    let target = ("grow_table", json!([2_000_000]));
    assert_ends(&module, target, LIMITS, expected).await;
    // one table has a limit of its own
    let run = call_with(&module, "grow_table", json!([99_999]), LIMITS).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    let expected = (
        Limit::TableElements,
        "table limit of 100000 elements exceeded: the task asked for 100001; then: wasm `unreachable` instruction \
         executed",
    );
    let target = ("grow_table", json!([100_000]));
    assert_ends(&module, target, LIMITS, expected).await;

    let limits = Limits {
        memory: MIB / 32,
        ..LIMITS
    };
    let expected = (
        Limit::Memory,
        "memory limit of 32 KiB exceeded: the task asked for 64 KiB",
    );
    assert_ends(&module, ("add", json!([1, 2])), limits, expected).await;
}

/// Not whatever a guest ends of that can do without what it was denied.
#[tokio::test]
async fn a_denial_is_the_reason_of_what_follows_from_it() {
    let module = hungry().await;
    for (end, how) in [
        (0, "; then: wasm `unreachable` instruction executed"),
        (1, "; then: out of bounds memory access"),
        (2, "; then it exited with 1"),
    ] {
        let message = format!("memory limit of 4 MiB exceeded: the task asked for 64064 KiB{how}");
        let target = ("denied_then", json!([0, end]));
        assert_ends(&module, target, LIMITS, (Limit::Memory, &message)).await;
    }
    for (pages, end, expected) in [
        (0, 3, own("WasmTrap", "integer divide by zero")),
        (0, 4, own("WasmTrap", "uninitialized element")),
        (
            1,
            0,
            own("WasmTrap", "wasm `unreachable` instruction executed"),
        ),
        (1, 1, own("WasmTrap", "out of bounds memory access")),
        (1, 2, own("GuestExit", 1)),
    ] {
        let run = call_with(&module, "denied_then", json!([pages, end]), LIMITS).await;
        assert_eq!(failure(&run.outcome), expected, "{pages} {end}");
        assert_eq!(run.limit, None, "{pages} {end}");
    }
}

#[tokio::test]
async fn the_stack_is_bounded() {
    let module = HOST.guest().await;
    let expected = (Limit::Stack, "call stack exhausted");
    let run = assert_ends(&module, ("recurse", json!([])), LIMITS, expected).await;
    assert!(matches!(
        run.outcome,
        Outcome::Failure {
            traceback: Some(_),
            ..
        }
    ));
}

#[tokio::test]
async fn results_are_bounded() {
    let module = HOST.guest().await;
    // a byte of 0 is six of JSON; two more are the quotes
    let outcome = call(&module, "fill", json!([10_922])).await;
    assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
    let expected = (
        Limit::Result,
        "the result is 65540 bytes of JSON: the limit is 65536",
    );
    assert_ends(&module, ("fill", json!([10_923])), LIMITS, expected).await;
    let run = call_with(&module, "fill_bytes", json!([60_000]), LIMITS).await;
    assert_eq!(run.limit, Some(Limit::Result));
    let limits = Limits {
        result: 16,
        ..LIMITS
    };
    let run = call_with(
        &module,
        "fail",
        json!(["a message that is too long"]),
        limits,
    )
    .await;
    assert_eq!(failure(&run.outcome).0, "ResultTooLarge");
    assert_eq!(run.limit, Some(Limit::Result));
}

/// Read, it would take the host 36 times its size.
#[tokio::test]
async fn free_form_json_is_bounded_before_it_is_read() {
    let amplifier = wat("../../../../tests/hostile/json_amplifier.wat");
    let module = HOST.load(&amplifier).await.unwrap();
    let limits = Limits {
        memory: 8 * MIB,
        ..LIMITS
    };
    let expected = (
        Limit::Result,
        "the result counts as 6000001 bytes of JSON or more: the limit is 65536",
    );
    assert_ends(&module, ("attack", json!([3_000_000])), limits, expected).await;
    let run = call_with(&module, "attack", json!([30_000]), limits).await;
    assert!(matches!(run.outcome, Outcome::Success(_)), "{run:?}");
}

/// A result that is much too large is not even read, and told apart from one that can't be read.
#[tokio::test]
async fn a_result_that_is_far_too_large_is_too_large() {
    let limits = Limits {
        result: 1024,
        ..LIMITS
    };
    let expected = (
        Limit::Result,
        "the result is too large to be read: the limit is 1024 bytes of JSON",
    );
    let giant = HOST
        .load(&wat("../../../../tests/hostile/giant_list.wat"))
        .await
        .unwrap();
    assert_ends(&giant, ("attack", json!([MIB])), limits, expected).await;
    let module = HOST.guest().await;
    let garbled = call_with(&module, "garble", json!([]), limits).await;
    let module = hungry().await;
    let no_case = call_with(&module, "no_case", json!([]), limits).await;
    let out_of_bounds = call_with(&module, "out_of_bounds", json!([]), limits).await;
    for run in [garbled, no_case, out_of_bounds] {
        assert_eq!(failure(&run.outcome).0, "WasmTrap", "{run:?}");
        assert_eq!(run.limit, None);
    }
}

#[tokio::test]
async fn handles_are_bounded() {
    let module = hungry().await;
    let expected = (
        Limit::Handles,
        "handle limit of 100 exceeded: the task asked for 101",
    );
    // a timer is two resources of WASI: itself, and what waits for it
    for (task, most) in [("things", 100), ("pollables", 50)] {
        assert_ends(&module, (task, json!([most + 1])), LIMITS, expected).await;
        let run = call_with(&module, task, json!([most]), LIMITS).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)), "{task}");
    }
    let run = call_with(&module, "things_then_crash", json!([100]), LIMITS).await;
    assert_eq!(failure(&run.outcome).0, "WasmTrap");
    assert_eq!(run.limit, None);
}

#[tokio::test]
async fn random_bytes_are_bounded_in_all_and_at_once() {
    let module = hungry().await;
    let limits = Limits {
        random: 10_000,
        ..LIMITS
    };
    for (target, asked) in [
        (("random_bytes", json!([1000, 11])), "11000 bytes"),
        (("insecure_bytes", json!([10_001])), "10001 bytes"),
        (("random_numbers", json!([1251])), "10008 bytes"),
    ] {
        let message = format!("random limit of 10000 bytes exceeded: the task asked for {asked}");
        assert_ends(&module, target, limits, (Limit::Random, &message)).await;
    }
    for target in [
        ("random_bytes", json!([1000, 10])),
        ("random_numbers", json!([1250])),
    ] {
        let run = call_with(&module, target.0, target.1, limits).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)));
    }
    let message = "random limit of 1 MiB exceeded: the task asked for 2 MiB";
    let target = ("random_bytes", json!([2 * MIB, 1]));
    assert_ends(&module, target, LIMITS, (Limit::Random, message)).await;
}

#[tokio::test]
async fn host_calls_are_bounded_and_counted() {
    let module = hungry().await;
    let run = call_with(&module, "clock_calls", json!([1000]), LIMITS).await;
    assert_eq!(run.usage.host_calls, 1000);
    let limits = Limits {
        host_calls: 1000,
        ..LIMITS
    };
    let run = call_with(&module, "clock_calls", json!([4_000_000_000_u32]), limits).await;
    let (exc_type, args, _) = failure(&run.outcome);
    let said = args[0].as_str().unwrap();
    assert_eq!(exc_type, "HostCallLimitExceeded");
    assert!(
        said.starts_with("host call limit of 1000 exceeded: the task made "),
        "{said}"
    );
    assert_eq!(run.limit, Some(Limit::HostCalls));
    println!("{said} in {:?}", run.usage.wall);
}

#[tokio::test]
async fn what_is_written_to_the_log_is_bounded_and_counted() {
    let module = hungry().await;
    let expected = (
        Limit::Log,
        "log limit of 1 KiB exceeded: the task wrote 1051 bytes",
    );
    // a line counts as 64 bytes at least
    let target = ("log_lines", json!([1_000_000]));
    let run = assert_ends(&module, target, LIMITS, expected).await;
    assert_eq!((run.usage.log, run.usage.host_calls), (1024, 17));
    let expected = (
        Limit::Log,
        "log limit of 1 KiB exceeded: the task wrote 1052 bytes",
    );
    let target = ("print", json!([1_000_000]));
    assert_ends(&module, target, LIMITS, expected).await;
    for task in ["print", "log_lines"] {
        let run = call_with(&module, task, json!([16]), LIMITS).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)), "{task}");
        assert_eq!(run.usage.log, 1024, "{task}");
    }
}

#[tokio::test]
async fn children_get_their_own_ids() {
    let module = HOST.guest().await;
    let run = call_with(
        &module,
        "send",
        json!(["shop.order", "[1]", r#"{"queue":"q"}"#]),
        LIMITS,
    )
    .await;
    let id = child_id("3f1b", 1, ChildKind::Sent, 0);
    assert_eq!(run.outcome, Outcome::Success(json!(id)));
    let [sent] = run.sent.as_slice() else {
        panic!("{:?}", run.sent)
    };
    assert_eq!(
        (sent.task.as_str(), &sent.args, sent.immutable),
        ("shop.order", &vec![json!(1)], true)
    );
    assert_eq!(
        Value::Object(sent.options.clone()),
        json!({"queue": "q", "task_id": id})
    );
    assert_eq!(run.usage.children, 1);

    for (args, message) in [
        (json!(["t", "{}", "{}"]), "args is not a JSON array"),
        (json!(["t", "[]", "[]"]), "options is not a JSON object"),
        (json!(["", "[]", "{}"]), "the signature names no task"),
        (
            json!(["t", "[]", r#"{"task_id":"another's"}"#]),
            "option task_id is the worker's to choose: leave it out, `send` returns it",
        ),
    ] {
        let run = call_with(&module, "send", args, LIMITS).await;
        assert_eq!(failure(&run.outcome), own("TaskError", message));
        assert!(run.sent.is_empty());
    }
}

/// The worker keeps them until the task has ended.
#[tokio::test]
async fn signatures_are_bounded_together() {
    let module = hungry().await;
    let limits = Limits {
        result: 100,
        children: 1000,
        descendants: 1000,
        ..LIMITS
    };
    let size = "t[1,2,3]{}{}".len();
    let sent = 100 / size;
    let target = ("send_many", json!([sent]));
    let run = call_with(&module, target.0, target.1, limits).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    assert_eq!((run.sent.len(), run.usage.children), (sent, sent));
    let message = format!(
        "result limit of 100 bytes exceeded: the task sent {} bytes",
        (sent + 1) * size
    );
    let target = ("send_many", json!([sent + 1]));
    assert_ends(&module, target, limits, (Limit::Result, &message)).await;
}

/// Their values take a hundred times their texts.
#[tokio::test]
async fn signatures_are_bounded_by_the_memory_that_they_take() {
    let module = hungry().await;
    let limits = Limits {
        result: MIB,
        children: 100_000,
        descendants: 100_000,
        ..LIMITS
    };
    let run = call_with(&module, "send_many", json!([20_000]), limits).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
    let run = call_with(&module, "send_many", json!([60_000]), limits).await;
    assert_eq!(failure(&run.outcome).0, "ResultTooLarge");
    assert_eq!(run.limit, Some(Limit::Result));
    assert!(run.sent.len() * "t[1,2,3]{}{}".len() < MIB);
}

#[tokio::test]
async fn children_are_bounded_with_all_that_is_nested_in_them() {
    let module = HOST.guest().await;
    let callback = r#"{"task":"b","args":[],"kwargs":{},"options":{},"immutable":false}"#;
    let options = format!(r#"{{"link":[{callback}],"link_error":[{callback}]}}"#);
    let send = ("send", json!(["t", "[]", options]));
    let limits = |children, descendants, depth| Limits {
        children,
        descendants,
        depth,
        ..LIMITS
    };
    for (limits, limit, message) in [
        (
            limits(2, 9, 9),
            Limit::Children,
            "children limit of 2 exceeded: the task sent 3",
        ),
        (
            limits(9, 2, 9),
            Limit::Descendants,
            "descendants limit exceeded: 2 may still come of the root task, the task sent 3",
        ),
        (
            limits(9, 9, 0),
            Limit::Depth,
            "depth limit exceeded: 0 more levels of tasks may follow, the task sent 1",
        ),
    ] {
        let run = assert_ends(&module, send.clone(), limits, (limit, message)).await;
        assert_eq!((run.sent.len(), run.usage.children), (0, 0));
    }
    let run = call_with(&module, send.0, send.1, limits(3, 3, 1)).await;
    assert!(matches!(run.outcome, Outcome::Success(_)), "{run:?}");
    assert_eq!((run.sent.len(), run.usage.children), (1, 3));
}
