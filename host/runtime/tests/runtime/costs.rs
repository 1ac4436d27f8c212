//! Figures, which `cargo xtask test` and `cargo xtask bench` print: they depend on the machine.

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::*;

/// The cost of a task beyond its own work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_call() {
    let module = HOST.guest().await;
    let add = ("add", json!([1, 2]));
    println!("sandbox, WAT: {}", cost(&module, add.clone()).await);
    let list = ("echo_bytes", json!(["AAAA"]));
    println!(
        "the same with a list in its signature: {}",
        cost(&module, list).await
    );
    for (what, guest) in [
        ("Rust, nothing imported", "small"),
        ("Rust, nearly everything imported", "probe"),
    ] {
        let module = HOST.load(&component(guest)).await.unwrap();
        println!("sandbox, {what}: {}", cost(&module, add.clone()).await);
    }
}

/// The cost of bytes and texts on their way into a sandbox and out of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_mebibyte() {
    const ROUNDS: usize = 50;
    let module = HOST.guest().await;
    let limits = Limits {
        memory: 8 * MIB,
        result: 8 * MIB,
        ..LIMITS
    };
    let bytes = json!("A".repeat(MIB.div_ceil(3) * 4));
    for (what, task, args) in [
        ("list<u8> out", "fill_bytes", json!([MIB])),
        ("list<u8> in and out", "echo_bytes", json!([bytes])),
        ("string in and out", "echo", json!(["A".repeat(MIB)])),
    ] {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let args = args.clone();
            let started = Instant::now();
            let run = call_with(&module, task, args, limits).await;
            times.push(started.elapsed());
            assert!(matches!(run.outcome, Outcome::Success(_)), "{run:?}");
        }
        let [median, p99] = percentiles(&mut times, [50, 99]);
        println!("1 MiB of {what}, with its JSON: median {median:?}, p99 {p99:?}");
    }
}

/// Each import takes its time in every call. What the SDK adds to a task must not bring in any.
#[test]
fn a_task_that_cannot_fail_imports_nothing() {
    let imports = |guest| component(guest).windows(5).any(|bytes| bytes == b"wasi:");
    assert!(imports("probe"));
    assert!(!imports("small"));
}

pub(crate) fn component(guest: &str) -> Vec<u8> {
    let folder = "../../target/wasm32-wasip2/release";
    let path = format!("{}/{folder}/{guest}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("run `cargo xtask guests` first")
}

/// Of store, instance, call and drop together, in rounds with pauses between them: whatever else keeps the machine busy
/// comes and goes.
async fn cost(module: &Module, (task, args): (&str, Value)) -> String {
    const ROUNDS: usize = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    const CALLS: usize = 500;
    let task = module.task(task).unwrap().clone();
    let arguments = task
        .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
        .unwrap();
    let rounds = async move {
        let (granted, progress) = (Arc::new(Granted::none()), watch::Sender::new(None));
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let (arguments, context) = (arguments.clone(), context());
                let started = Instant::now();
                let run = task.call(arguments, context, LIMITS, &granted, &progress);
                let run = run.await.unwrap();
                times.push(started.elapsed());
                assert!(matches!(run.outcome, Outcome::Success(_)), "{run:?}");
            }
            rounds.push(percentiles(&mut times, [50, 99]));
            sleep(PAUSE).await;
        }
        rounds
    };
    // on one of the runtime's own threads, as in a worker
    let mut rounds = tokio::spawn(rounds).await.unwrap();
    rounds.sort();
    let ([median, p99], [slowest, _]) = (rounds[0], rounds[ROUNDS - 1]);
    format!(
        "median {median:?}, p99 {p99:?} in the quietest round, median {slowest:?} in the slowest"
    )
}

fn percentiles<const N: usize>(times: &mut [Duration], which: [usize; N]) -> [Duration; N] {
    times.sort();
    which.map(|percent| times[(times.len() - 1) * percent / 100])
}

/// Small tasks stay quick, and heartbeats come in time, while guests compute on every thread.
#[test]
fn the_neighbours_of_spinning_guests() {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    threads.block_on(async {
        let module = HOST.guest().await;
        let alone = Latency::of(&module).await;
        println!("small calls alone: {alone}");
        let mut spinning = JoinSet::<Outcome>::new();
        for _ in 0..2 {
            let module = module.clone();
            spinning.spawn(async move { call(&module, "spin", json!([])).await });
        }
        println!("beside 2 spinning guests: {}", Latency::of(&module).await);
        spinning.shutdown().await;
        // as large as any result of the default limits
        let limits = Limits {
            memory: 8 * MIB,
            result: 8 * MIB,
            ..LIMITS
        };
        for (task, size) in [("fill_bytes", 6_000_000), ("fill", 1_300_000)] {
            for _ in 0..2 {
                let module = module.clone();
                spinning.spawn(async move {
                    loop {
                        let run = call_with(&module, task, json!([size]), limits).await;
                        assert!(matches!(run.outcome, Outcome::Success(_)), "{run:?}");
                        tokio::task::yield_now().await;
                    }
                });
            }
            let latency = Latency::of(&module).await;
            println!("beside 2 guests that return 8 MiB by {task}: {latency}");
            spinning.shutdown().await;
        }
    });
}

/// Of small calls that come one by one, and of a heartbeat.
struct Latency {
    calls: [Duration; 4],
    heartbeat: [Duration; 2],
}

impl Latency {
    const CALLS: usize = 300;
    const BEAT: Duration = Duration::from_millis(5);
    /// A tenth of the worker's AMQP heartbeat (`petiole-broker`), of which the broker misses two before it gives the
    /// worker up; many times what a busy machine adds to the few milliseconds that are printed.
    const MOST: Duration = Duration::from_secs(1);

    async fn of(module: &Module) -> Self {
        let heart = tokio::spawn(async {
            let mut late = Vec::new();
            let mut beat = interval(Self::BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat.tick().await;
            let mut last = Instant::now();
            for _ in 0..Self::CALLS / 4 {
                beat.tick().await;
                late.push(last.elapsed().saturating_sub(Self::BEAT));
                last = Instant::now();
            }
            percentiles(&mut late, [99, 100])
        });
        let module = module.clone();
        let calls = tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..Self::CALLS {
                sleep(Duration::from_millis(1)).await;
                let module = module.clone();
                let sent = Instant::now();
                let call = tokio::spawn(async move { call(&module, "add", json!([1, 2])).await });
                assert_eq!(call.await.unwrap(), Outcome::Success(json!(3)));
                times.push(sent.elapsed());
            }
            percentiles(&mut times, [50, 90, 99, 100])
        });
        let latency = Self {
            calls: calls.await.unwrap(),
            heartbeat: heart.await.unwrap(),
        };
        let ([_, _, p99, _], [_, latest]) = (latency.calls, latency.heartbeat);
        assert!(p99.max(latest) < Self::MOST, "{latency}");
        latency
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, p90, p99, most] = self.calls;
        let [late, latest] = self.heartbeat;
        write!(
            f,
            "median {median:?}, p90 {p90:?}, p99 {p99:?}, most {most:?}; \
             heartbeats late by {late:?} (p99), {latest:?} (most)"
        )
    }
}

/// Memory of the worker that a waiting task keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_parked_guests() {
    const GUESTS: u64 = 1_000;
    let host = host(1024);
    let module = host.guest().await;
    let before = Resident::now();
    let mut parked = JoinSet::new();
    for _ in 0..GUESTS {
        let module = module.clone();
        parked.spawn(async move { call(&module, "sleep", json!([2_000_000_000])).await });
    }
    sleep(Duration::from_millis(1_500)).await;
    let during = Resident::now();
    println!(
        "{GUESTS} parked guests: {} KiB each, {} MiB in all ({before} before, {during} with them)",
        during.since(&before) / GUESTS,
        during.since(&before) / 1024,
    );
    assert!(during.since(&before) < 100 * 1024, "{during}");
    while let Some(outcome) = parked.join_next().await {
        assert_eq!(outcome.unwrap(), Outcome::Success(json!(null)));
    }
    println!("when they have gone: {}", Resident::now());
}

/// The process's memory.
struct Resident {
    kib: u64,
}

impl Resident {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        Self {
            kib: kib.parse().unwrap(),
        }
    }

    /// The growth, in KiB.
    fn since(&self, before: &Self) -> u64 {
        self.kib.saturating_sub(before.kib)
    }
}

impl std::fmt::Display for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RSS {} MiB", self.kib / 1024)
    }
}
