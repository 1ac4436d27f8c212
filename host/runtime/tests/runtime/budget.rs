//! Guests that take all they may, at once, of a budget that has not enough for all.

use tokio::task::JoinSet;

use super::*;

const SLOTS: u32 = 32;
/// Of 64 MiB for runs three eighths are kept for results, and an eighth for small tasks: there is room for four of 8 MiB.
const BUDGET: usize = 64 * MIB * 8 / 5;

fn runtime() -> Runtime {
    let size = PoolSize {
        slots: SLOTS,
        max_memory: 8 * MIB,
        budget: BUDGET,
        readers: 1,
    };
    Runtime::new(size).unwrap()
}

async fn load(runtime: &Runtime, wasm: &[u8]) -> Module {
    let interfaces = Interfaces::default();
    let load = runtime.load("hungry", binary(wasm), &HOST.cache, &COMPILER, interfaces);
    load.await.unwrap()
}

static COMPILER: LazyLock<Compiler> = LazyLock::new(Compiler::in_process);

/// `eat` takes `pages` more, one by one, each for some time, and returns a list of `lists` lists; `hold` takes them at
/// once, for ever.
fn hungry() -> Vec<u8> {
    let text = r#"(component
        (core module $m
            (memory (export "memory") 1)
            (func (export "eat") (param $pages i32) (param $lists i32) (result i32)
                (local $spin i32)
                (block $done (loop $more
                    (br_if $done (i32.eqz (local.get $pages)))
                    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                    ;; the whole page is in use
                    (memory.fill
                        (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)) (i32.const 1) (i32.const 65536))
                    (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
                    (local.set $spin (i32.const 200000))
                    (loop $again
                        (local.set $spin (i32.sub (local.get $spin) (i32.const 1)))
                        (br_if $again (local.get $spin)))
                    (br $more)))
                ;; its lists are all at one place, and empty
                (memory.fill (i32.const 1024) (i32.const 0) (i32.const 64))
                (i32.store (i32.const 16) (i32.const 65536))
                (i32.store (i32.const 20) (local.get $lists))
                (memory.fill (i32.const 65536) (i32.const 0) (i32.mul (local.get $lists) (i32.const 8)))
                (i32.const 16))
            (func (export "hold") (param $pages i32)
                (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then unreachable))
                (loop $for-ever (br $for-ever))))
        (core instance $i (instantiate $m))
        (alias core export $i "memory" (core memory $memory))
        (func (export "eat") (param "pages" u32) (param "lists" u32) (result (list (list u32)))
            (canon lift (core func $i "eat") (memory $memory)))
        (func (export "hold") (param "pages" u32) (canon lift (core func $i "hold"))))"#;
    wat::parse_str(text).unwrap()
}

/// The numbers of guests that end with success and that are given up; anything else is wrong.
async fn all(runtime: &Runtime, guests: u32, args: Value, limits: Limits) -> (usize, usize) {
    let module = load(runtime, &hungry()).await;
    let mut running = JoinSet::new();
    for _ in 0..guests {
        let (module, args) = (module.clone(), args.clone());
        running.spawn(async move {
            let task = module.task("eat").unwrap();
            let arguments = task
                .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
                .unwrap();
            let (granted, progress) = (Arc::new(Granted::none()), watch::Sender::new(None));
            task.call(arguments, context(), limits, &granted, &progress)
                .await
        });
    }
    let (mut done, mut given_up) = (0, 0);
    while let Some(run) = running.join_next().await {
        let usage = runtime.budget().usage();
        assert!(
            usage.used <= usage.total && usage.peak <= usage.total,
            "{usage:?}"
        );
        match run.unwrap() {
            Ok(run) => {
                assert!(
                    matches!(run.outcome, Outcome::Success(Value::Array(_))),
                    "{run:?}"
                );
                done += 1;
            }
            Err(HostFault::NoMemoryLeft { reason }) => {
                assert!(reason.contains("memory"), "{reason}");
                given_up += 1;
            }
            Err(fault) => panic!("{fault}"),
        }
    }
    (done, given_up)
}

fn assert_nothing_is_left(runtime: &Runtime) {
    let usage = runtime.budget().usage();
    assert_eq!((usage.used, usage.waiting), (idle(), 0), "{usage:?}");
}

/// Bytes that count as used while nobody runs.
fn idle() -> usize {
    Budget::new(BUDGET, SLOTS, 1).usage().used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_take_all_their_memory_share_a_budget() {
    let runtime = runtime();
    let (done, given_up) = all(&runtime, SLOTS, json!([120, 10]), LIMITS_OF_8_MIB).await;
    assert_eq!((done, given_up), (SLOTS as usize, 0));
    assert_nothing_is_left(&runtime);
}

const LIMITS_OF_8_MIB: Limits = Limits {
    memory: 8 * MIB,
    result: MIB,
    ..LIMITS
};

/// Some 140 bytes of each list here, of 8 there: results that together take many times the budget are read in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_results_share_a_budget() {
    let runtime = runtime();
    let (done, given_up) = all(&runtime, SLOTS, json!([14, 70_000]), LIMITS_OF_8_MIB).await;
    assert_eq!((done, given_up), (SLOTS as usize, 0));
    assert_nothing_is_left(&runtime);
}

/// One whose time passes while it waits has not failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_memory_is_given_up_in_time() {
    let runtime = runtime();
    let module = load(&runtime, &hungry()).await;
    let mut holders = JoinSet::new();
    for _ in 0..4 {
        let module = module.clone();
        holders
            .spawn(async move { call_with(&module, "hold", json!([120]), LIMITS_OF_8_MIB).await });
    }
    let idle = idle();
    until(|| runtime.budget().usage().used > idle + 20 * MIB).await;
    let limits = Limits {
        time: Duration::from_millis(100),
        ..LIMITS_OF_8_MIB
    };
    let task = module.task("hold").unwrap();
    let arguments = task
        .bind(&[json!(120)], &Map::new(), LIMITS.arguments)
        .unwrap();
    let (granted, progress) = (Arc::new(Granted::none()), watch::Sender::new(None));
    let run = task
        .call(arguments, context(), limits, &granted, &progress)
        .await;
    assert!(
        matches!(run, Err(HostFault::NoMemoryLeft { .. })),
        "{run:?}"
    );
    // those that go are no more in anybody's way
    holders.shutdown().await;
    assert_nothing_is_left(&runtime);
    let arguments = task
        .bind(&[json!(120)], &Map::new(), LIMITS.arguments)
        .unwrap();
    let run = task
        .call(arguments, context(), limits, &granted, &progress)
        .await;
    assert_eq!(run.unwrap().limit, Some(Limit::Time), "it is its own");
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap();
}

/// However little it waited, its own time is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_has_waited_for_memory_has_a_time_limit_like_any_other() {
    let runtime = runtime();
    let module = load(&runtime, &hungry()).await;
    let mut holders = JoinSet::new();
    for _ in 0..4 {
        let module = module.clone();
        holders
            .spawn(async move { call_with(&module, "hold", json!([120]), LIMITS_OF_8_MIB).await });
    }
    // Three of them could all reach their limits, with their tables; the fourth waits.
    until(|| runtime.budget().usage().waiting == 1).await;
    let waits = {
        let module = module.clone();
        let limits = Limits {
            time: Duration::from_secs(5),
            ..LIMITS_OF_8_MIB
        };
        tokio::spawn(async move { call_with(&module, "hold", json!([120]), limits).await })
    };
    until(|| runtime.budget().usage().waiting == 2).await;
    holders.shutdown().await;
    let run = waits.await.unwrap();
    assert_eq!(run.limit, Some(Limit::Time), "{run:?}");
    assert_nothing_is_left(&runtime);
}

/// Small ones need nothing of what others have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_tasks_do_not_wait() {
    let runtime = runtime();
    let small = load(&runtime, &guest()).await;
    let large = {
        let runtime = runtime.clone();
        tokio::spawn(
            async move { all(&runtime, SLOTS - 1, json!([120, 10]), LIMITS_OF_8_MIB).await },
        )
    };
    until(|| runtime.budget().usage().waiting > 0 || large.is_finished()).await;
    for _ in 0..100 {
        let sum = call(&small, "add", json!([1, 2])).await;
        assert_eq!(sum, Outcome::Success(json!(3)));
    }
    large.await.unwrap();
}
