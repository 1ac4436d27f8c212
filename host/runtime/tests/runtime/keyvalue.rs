//! `wasi:keyvalue`, by the guest `storage`, on a storage in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use petiole_permits::{KeyValue, KeyValueError, Keys, MAX_BATCH_KEYS, MAX_KEY, MAX_VALUE, Swap};

use super::files::storage;
use super::*;

const LIMITS: Limits = Limits {
    memory: 8 * MIB,
    result: 2 * MIB,
    disk: 64 << 20,
    ..super::LIMITS
};

/// Keys of a page.
const PAGE: usize = 3;

#[derive(Debug, Default)]
struct Memory {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    down: bool,
}

impl Memory {
    fn down() -> Self {
        Self {
            down: true,
            ..Self::default()
        }
    }

    fn values<T>(
        &self,
        with: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, KeyValueError> {
        if self.down {
            return Err(KeyValueError::Unreachable("10.1.2.3:6379 refused".into()));
        }
        Ok(with(&mut self.values.lock().unwrap()))
    }

    fn keys(&self) -> Vec<String> {
        self.values.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl KeyValue for Memory {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, KeyValueError> {
        self.values(|values| keys.iter().map(|key| values.get(key).cloned()).collect())
    }

    async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError> {
        self.values(|values| values.extend(pairs))
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        self.values(|values| values.retain(|key, _| !keys.contains(key)))
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        self.values(|values| values.contains_key(key))
    }

    async fn list_keys(&self, prefix: &str, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let skip: usize = match cursor.map(str::parse) {
            None => 0,
            Some(Ok(skip)) => skip,
            Some(Err(_)) => return Err(KeyValueError::Cursor(cursor.unwrap().to_owned())),
        };
        self.values(|values| {
            let keys = values.keys().filter_map(|key| key.strip_prefix(prefix));
            let mut keys: Vec<_> = keys.skip(skip).take(PAGE + 1).map(str::to_owned).collect();
            let more = keys.len() > PAGE;
            keys.truncate(PAGE);
            let cursor = more.then(|| (skip + PAGE).to_string());
            Keys { keys, cursor }
        })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        self.values(|values| {
            let value = values
                .get(key)
                .map_or("0".into(), |value| String::from_utf8_lossy(value));
            let number: i64 = value.parse().map_err(|_| KeyValueError::NotCountable)?;
            let sum = number
                .checked_add(delta)
                .ok_or(KeyValueError::NotCountable)?;
            values.insert(key.to_owned(), sum.to_string().into());
            Ok(sum)
        })?
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<Swap, KeyValueError> {
        self.values(|values| {
            let current = values.get(key).cloned();
            if current.as_deref() != expected {
                return Swap::Changed(current);
            }
            values.insert(key.to_owned(), value);
            Swap::Done
        })
    }
}

struct Sandboxed {
    module: Module,
    granted: Arc<Granted>,
    limits: Limits,
}

impl Sandboxed {
    /// A module of that name, as the worker would give it its part of the storage.
    async fn new(name: &str, memory: &Arc<Memory>) -> Self {
        let granted = Granted {
            keyvalue: Some(KeyValueSpace {
                store: memory.clone(),
                prefix: format!("petiole:kv:{name}:"),
            }),
            ..Granted::none()
        };
        Self::with(granted).await
    }

    async fn with(granted: Granted) -> Self {
        let interfaces = Interfaces {
            keyvalue: true,
            ..Interfaces::default()
        };
        let compiler = Compiler::in_process();
        let module = HOST
            .runtime
            .load(
                "storage",
                binary(&storage()),
                &HOST.cache,
                &compiler,
                interfaces,
            )
            .await;
        Self {
            module: module.unwrap(),
            granted: Arc::new(granted),
            limits: LIMITS,
        }
    }

    async fn run(&self, task: &str, args: Value) -> Run {
        let task = self.module.task(task).expect(task);
        let arguments = task
            .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
            .unwrap();
        let progress = watch::Sender::new(None);
        let run = task.call(arguments, context(), self.limits, &self.granted, &progress);
        run.await.unwrap()
    }

    /// The task's result: its value, or the text of its error.
    async fn call(&self, task: &str, args: Value) -> Result<Value, String> {
        match self.run(task, args).await.outcome {
            Outcome::Success(value) => Ok(value),
            Outcome::Failure { exception, .. } if exception.exc_type == "TaskError" => {
                Err(exception.exc_message[0].as_str().unwrap().to_owned())
            }
            other => panic!("{task}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_one_run_sets_another_one_gets() {
    let memory = Arc::new(Memory::default());
    let shop = Sandboxed::new("shop", &memory).await;
    for (task, args, expected) in [
        ("kv_get", json!(["a"]), json!(null)),
        ("kv_exists", json!(["a"]), json!(false)),
        ("kv_set", json!(["a", "1"]), json!(null)),
        ("kv_get", json!(["a"]), json!("1")),
        ("kv_exists", json!(["a"]), json!(true)),
        ("kv_increment", json!(["a", 41]), json!(42)),
        ("kv_increment", json!(["new", -1]), json!(-1)),
        ("kv_delete", json!(["a"]), json!(null)),
        ("kv_delete", json!(["a"]), json!(null)),
        ("kv_get", json!(["a"]), json!(null)),
        (
            "kv_batch",
            json!([[["x", "1"], ["y", ""]], ["y", "z", "x"], ["x", "new"]]),
            json!([["y", ""], null, ["x", "1"]]),
        ),
        ("kv_list", json!([null]), json!([["y"], null])),
    ] {
        assert_eq!(
            shop.call(task, args.clone()).await,
            Ok(expected),
            "{task} {args}"
        );
    }
    assert_eq!(memory.keys(), ["petiole:kv:shop:y"]);
}

#[tokio::test]
async fn a_swap_is_told_of_what_came_between() {
    let memory = Arc::new(Memory::default());
    let shop = Sandboxed::new("shop", &memory).await;
    assert_eq!(
        shop.call("kv_swap", json!(["k", ["other", "another"], "last"]))
            .await,
        Ok(json!([null, "other", "another"]))
    );
    assert_eq!(shop.call("kv_get", json!(["k"])).await, Ok(json!("last")));
    assert_eq!(
        shop.call("kv_keep_swaps", json!([17])).await,
        Err("16, then a task may have 16 compare-and-swap handles at once: drop some".to_owned())
    );
}

#[tokio::test]
async fn lists_come_in_pages() {
    let shop = Sandboxed::new("shop", &Arc::default()).await;
    let pairs: Vec<_> = ["a", "b", "c", "d"].map(|key| (key, "")).into();
    shop.call("kv_batch", json!([pairs, [], []])).await.unwrap();
    assert_eq!(
        shop.call("kv_list", json!([null])).await,
        Ok(json!([["a", "b", "c"], "3"]))
    );
    assert_eq!(
        shop.call("kv_list", json!(["3"])).await,
        Ok(json!([["d"], null]))
    );
    let long = format!("{:0>1025}", 3);
    assert_eq!(
        shop.call("kv_list", json!([&long[1..]])).await,
        Ok(json!([["d"], null]))
    );
    for cursor in ["petiole:kv:other:", &long] {
        assert_eq!(
            shop.call("kv_list", json!([cursor])).await,
            Err("no such cursor".to_owned())
        );
    }
}

#[tokio::test]
async fn no_key_reaches_another_modules_values() {
    let memory = Arc::new(Memory::default());
    let other = Sandboxed::new("other", &memory).await;
    other
        .call("kv_set", json!(["secret", "hidden"]))
        .await
        .unwrap();
    let shop = Sandboxed::new("shop", &memory).await;
    let keys = [
        "secret",
        "petiole:kv:other:secret",
        "../other:secret",
        "..",
        "/",
        "*",
        "other:secret",
        ":secret",
        "\0petiole:kv:other:secret",
        "a\r\nGET petiole:kv:other:secret",
        "\u{8}\u{8}\u{8}\u{8}\u{8}other:secret",
    ];
    for key in keys {
        assert_eq!(
            shop.call("kv_get", json!([key])).await,
            Ok(json!(null)),
            "{key:?}"
        );
        shop.call("kv_delete", json!([key])).await.unwrap();
        shop.call("kv_set", json!([key, "taken"])).await.unwrap();
        shop.call("kv_increment", json!([format!("{key}n"), 1]))
            .await
            .unwrap();
    }
    assert_eq!(
        other.call("kv_get", json!(["secret"])).await,
        Ok(json!("hidden"))
    );
    let shops = memory
        .keys()
        .into_iter()
        .filter(|key| key.starts_with("petiole:kv:shop:"));
    assert_eq!(shops.count(), 2 * keys.len());
    assert_eq!(
        other.call("kv_list", json!([null])).await,
        Ok(json!([["secret"], null]))
    );
}

#[tokio::test]
async fn there_is_one_bucket() {
    let shop = Sandboxed::new("shop", &Arc::default()).await;
    for name in ["default", ""] {
        assert_eq!(shop.call("kv_open", json!([name])).await, Ok(json!(null)));
    }
    for name in [
        "other",
        "Default",
        "default ",
        "../default",
        "redis://10.0.0.1",
        "\0",
    ] {
        assert_eq!(
            shop.call("kv_open", json!([name])).await,
            Err("no-such-store".to_owned())
        );
    }
}

#[tokio::test]
async fn a_task_that_is_not_granted_it_has_no_access() {
    let sandboxed = Sandboxed::with(Granted::none()).await;
    assert_eq!(
        sandboxed.call("kv_open", json!(["default"])).await,
        Err("access-denied".to_owned())
    );
}

#[tokio::test]
async fn a_module_that_is_not_granted_it_is_not_loaded() {
    let refused = HOST.load(&storage()).await.unwrap_err().to_string();
    for interface in ["store", "atomics", "batch"] {
        let import = format!("wasi:keyvalue/{interface}@0.2.0-draft2: needs `keyvalue`");
        assert!(refused.contains(&import), "{refused}");
    }
}

#[tokio::test]
async fn a_storage_that_is_down_is_an_error_without_details() {
    let shop = Sandboxed::new("shop", &Arc::new(Memory::down())).await;
    for (task, args) in [
        ("kv_get", json!(["a"])),
        ("kv_set", json!(["a", "1"])),
        ("kv_delete", json!(["a"])),
        ("kv_exists", json!(["a"])),
        ("kv_list", json!([null])),
        ("kv_increment", json!(["a", 1])),
        ("kv_batch", json!([[], ["a"], []])),
        ("kv_swap", json!(["a", [], "1"])),
    ] {
        assert_eq!(
            shop.call(task, args).await,
            Err("the key-value storage can't be used at the moment".to_owned()),
            "{task}"
        );
    }
}

#[tokio::test]
async fn sizes_are_limited() {
    let memory = Arc::new(Memory::default());
    let shop = Sandboxed::new("shop", &memory).await;
    let long = "k".repeat(MAX_KEY + 1);
    for (task, args, reason) in [
        (
            "kv_get",
            json!([""]),
            "a key has at least one byte".to_owned(),
        ),
        (
            "kv_get",
            json!([long]),
            "a key of 1025 bytes is longer than the limit of 1024".to_owned(),
        ),
        (
            "kv_fill",
            json!([1, MAX_VALUE + 1]),
            "a value of 1048577 bytes is larger than the limit of 1048576".to_owned(),
        ),
        (
            "kv_get_missing",
            json!([MAX_BATCH_KEYS + 1, 1]),
            "a batch of 1001 keys is larger than the limit of 1000".to_owned(),
        ),
    ] {
        assert_eq!(shop.call(task, args).await, Err(reason));
    }
    let large = vec![0; MAX_VALUE + 1];
    memory
        .values(|values| values.insert("petiole:kv:shop:key".to_owned(), large))
        .unwrap();
    assert_eq!(
        shop.call("kv_keep_swaps", json!([1])).await,
        Err("0, then a value of 1048577 bytes is larger than the limit of 1048576".to_owned())
    );
    memory.values(BTreeMap::clear).unwrap();
    for (task, args, value) in [
        ("kv_get", json!([&long[1..]]), json!(null)),
        ("kv_fill", json!([1, MAX_VALUE]), json!(1)),
        (
            "kv_get_missing",
            json!([MAX_BATCH_KEYS, 1]),
            json!(MAX_BATCH_KEYS),
        ),
    ] {
        assert_eq!(shop.call(task, args).await, Ok(value), "{task}");
    }
}

#[tokio::test]
async fn what_is_stored_counts_to_the_disk_limit() {
    let mut shop = Sandboxed::new("shop", &Arc::default()).await;
    shop.limits.disk = 10_000;
    let run = shop.run("kv_fill", json!([9, 1_000])).await;
    assert_eq!(run.outcome, Outcome::Success(json!(9)));
    // keys and prefixes are stored as well
    assert!(
        (9_000..10_000).contains(&run.usage.disk),
        "{}",
        run.usage.disk
    );
    let run = shop.run("kv_fill", json!([11, 1_000])).await;
    assert_eq!(failure(&run.outcome).0, "DiskLimitExceeded");
    assert_eq!((run.limit, run.usage.disk), (Some(Limit::Disk), 10_000));
}

#[tokio::test]
async fn what_goes_to_the_storage_and_comes_from_it_is_counted() {
    let shop = Sandboxed::new("shop", &Arc::default()).await;
    let set = "petiole:kv:shop:k".len() as u64 + 5;
    for (task, args, bytes) in [
        ("kv_set", json!(["k", "value"]), (0, set)),
        ("kv_get", json!(["k"]), (5, 0)),
        ("kv_get", json!(["none"]), (0, 0)),
        ("kv_list", json!([null]), (1, 0)),
        (
            "kv_batch",
            json!([[["k", "other"]], ["k", "none"], []]),
            (5, set),
        ),
        // read when it begins and when it is asked for
        ("kv_swap", json!(["k", [], "value"]), (10, set)),
    ] {
        let usage = shop.run(task, args).await.usage;
        assert_eq!((usage.bytes_in, usage.bytes_out), bytes, "{task}");
    }
}

#[tokio::test]
async fn each_call_of_the_storage_is_a_host_call() {
    let shop = Sandboxed::new("shop", &Arc::default()).await;
    let few = shop.run("kv_fill", json!([1, 1])).await.usage.host_calls;
    let many = shop.run("kv_fill", json!([101, 1])).await.usage.host_calls;
    assert_eq!(many - few, 100);
}
