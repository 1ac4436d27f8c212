//! Things that a task is given without asking: variables, clocks, random numbers; and secrets, which nobody else
//! sees.

use petiole_permits::Secret;

use super::egress::{logged, outbound};
use super::*;

const PASSWORD: &str = "hunter2-is-no-password";
const LINES: &str = "-----BEGIN KEY-----\nMIIBVgIBADANBgkq\n-----END KEY-----";

fn granted() -> Granted {
    Granted {
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        secrets: vec![
            ("PASSWORD".to_owned(), Secret::from(PASSWORD)),
            ("KEY".to_owned(), Secret::from(LINES)),
            ("PIN".to_owned(), Secret::from("123")),
        ],
        ..Granted::none()
    }
}

async fn run(task: &str, args: Value, id: &str, granted: &Granted) -> Outcome {
    let http = Interfaces {
        http: true,
        ..Interfaces::default()
    };
    let (wasm, compiler) = (outbound(), Compiler::in_process());
    let module = HOST
        .runtime
        .load("m", binary(&wasm), &HOST.cache, &compiler, http)
        .await
        .unwrap();
    let task = module.task(task).expect(task);
    let arguments = task
        .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
        .unwrap();
    let context = Context {
        id: id.to_owned(),
        ..context()
    };
    let limits = Limits {
        log: 64 * 1024,
        memory: 8 * MIB,
        handles: 1_000,
        ..LIMITS
    };
    let granted = Arc::new(granted.clone());
    let progress = watch::Sender::new(None);
    let run = task.call(arguments, context, limits, &granted, &progress);
    run.await.unwrap().outcome
}

#[tokio::test]
async fn a_task_sees_its_variables_and_no_others() {
    let seen = run("variables", json!([]), "id", &Granted::none()).await;
    assert_eq!(seen, Outcome::Success(json!([])));
    let seen = run("variables", json!([]), "id", &granted()).await;
    let expected = json!([
        ["GREETING", "hello"],
        ["PASSWORD", PASSWORD],
        ["KEY", LINES],
        ["PIN", "123"]
    ]);
    assert_eq!(seen, Outcome::Success(expected));
}

#[tokio::test]
async fn secrets_are_in_no_log_and_no_failure() {
    assert!(!format!("{:?}", granted()).contains(PASSWORD));
    for (name, value, told) in [
        ("PASSWORD", PASSWORD, vec!["***"]),
        ("KEY", LINES, vec!["***"]),
        ("GREETING", "hello", vec!["hello"]),
        // too short to be told from the text around it
        ("PIN", "123", vec!["123"]),
    ] {
        let (lines, guard) = logged();
        let outcome = run("tell", json!([name]), "id", &granted()).await;
        drop(guard);
        let log = lines.text();
        let (exc_type, args, _) = failure(&outcome);
        assert_eq!(exc_type, "ValueError");
        assert_eq!(args, [json!(format!("{} is wrong", told[0]))]);
        if told[0] == "***" {
            for part in value.lines() {
                assert!(!log.contains(part), "{part} is in {log}");
            }
            // nor a piece of it, where the line is broken
            assert!(!log.contains("--hun") && !log.contains("---MII"), "{log}");
        }
        assert!(log.contains(&format!("{}.", told[0])), "{log}");
    }
    // the result is the task's own business
    let revealed = run("reveal", json!(["PASSWORD"]), "id", &granted()).await;
    assert_eq!(revealed, Outcome::Success(json!(PASSWORD)));
}

#[tokio::test]
async fn clocks_that_are_not_granted_stand_still() {
    let started = std::time::SystemTime::now();
    let still = Granted {
        clocks: false,
        ..Granted::none()
    };
    for (granted, goes_on) in [(Granted::none(), true), (still, false)] {
        let before = Instant::now();
        let outcome = run("clocks", json!([50]), "id", &granted).await;
        let Outcome::Success(clocks) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(before.elapsed() >= Duration::from_millis(50), "it slept");
        let now = clocks[0].as_u64().unwrap();
        let since = started.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::from(now) >= since.as_millis(), "{clocks}");
        for clock in [&clocks[1], &clocks[2]] {
            assert_eq!(clock.as_u64().unwrap() > 0, goes_on, "{clocks}");
        }
    }
}

#[tokio::test]
async fn numbers_that_are_not_random_follow_from_the_tasks_id() {
    let numbers = async |id: &str, random| {
        let granted = Granted {
            random,
            ..Granted::none()
        };
        match run("numbers", json!([]), id, &granted).await {
            Outcome::Success(Value::Array(numbers)) => numbers,
            other => panic!("{other:?}"),
        }
    };
    let first = numbers("first", false).await;
    assert_eq!(numbers("first", false).await, first);
    let second = numbers("second", false).await;
    let random = [numbers("first", true).await, numbers("first", true).await];
    for (a, b) in [
        (&first, &second),
        (&first, &random[0]),
        (&random[0], &random[1]),
    ] {
        assert!(a.iter().zip(b).all(|(a, b)| a != b), "{a:?} {b:?}");
    }
    let mut of_one = first.clone();
    of_one.sort_by_key(Value::as_u64);
    of_one.dedup();
    assert_eq!(of_one.len(), first.len(), "{first:?}");
}
