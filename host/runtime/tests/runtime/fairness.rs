//! Guests that stay on their threads for long, and those who wait meanwhile.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

/// The fewest heartbeats for each long operation. Those of an executor that has to wait for the
/// guest come in between two operations: one or two.
const BEATS: u32 = 3;

/// Guests on every thread of the executor, each in operations of 10 ms and more. Only their first ones, before they
/// are known, keep others waiting.
#[test]
fn long_operations_leave_the_executor_its_threads() {
    let runtime = Runtime::new(PoolSize {
        slots: 2,
        max_memory: 256 * MIB,
        budget: 2048 * MIB,
        readers: 1,
    });
    let runtime = runtime.unwrap();
    for (name, threads, calls, task, args) in [
        ("bulk memory", 1, 1, "fill", (240 * MIB, 20)),
        ("arguments", 2, 1, "report", (120 * MIB, 10)),
        // each is over before it is known: the next call of the function is
        ("short calls", 1, 10, "fill", (120 * MIB, 1)),
    ] {
        let beats = beats(&runtime, threads, calls, (task, json!([args.0, args.1])));
        let operations = calls * args.1;
        println!("{name}: {beats} heartbeats in {operations} operations");
        assert!(beats >= BEATS * operations, "{name}: {beats}");
    }
}

/// The heartbeats of an executor while as many guests as it has threads make `calls` calls each.
fn beats(runtime: &Runtime, threads: usize, calls: u32, call: (&'static str, Value)) -> u32 {
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_time()
        .build()
        .unwrap();
    executor.block_on(async {
        let interfaces = Interfaces::default();
        let (wasm, compiler) = (wat("bulk.wat"), Compiler::in_process());
        let module = runtime
            .load("bulk", binary(&wasm), &HOST.cache, &compiler, interfaces)
            .await
            .unwrap();
        let heart = Arc::new(AtomicU32::new(0));
        let beating = heart.clone();
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                beating.fetch_add(1, Relaxed);
            }
        });
        let mut guests = JoinSet::new();
        for _ in 0..threads {
            guests.spawn(calls_of(module.clone(), calls, call.clone()));
        }
        while let Some(guest) = guests.join_next().await {
            guest.unwrap();
        }
        heart.load(Relaxed)
    })
}

async fn calls_of(module: Module, calls: u32, (task, args): (&'static str, Value)) {
    let limits = Limits {
        memory: 256 * MIB,
        result: 8 * MIB,
        ..LIMITS
    };
    for _ in 0..calls {
        let run = call_with(&module, task, args.clone(), limits).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)));
    }
}
