#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use petiole_permits::{Size, Unit};
use proptest::prelude::*;

use super::*;

fn seconds(seconds: f64) -> Amount {
    Amount::Time(Duration::from_secs_f64(seconds))
}

fn size(bytes: u64) -> Amount {
    Amount::Size(Size::new(bytes))
}

const EXAMPLE: &str = r#"
    [defaults]
    time_limit = 30.0
    soft_time_limit = 20
    memory = "64MiB"
    max_retries = 3
    default_retry_delay = 180.0
    max_result = 1000

    [tasks.run_task]
    name = "other.name"
    time_limit = 5
    max_retries = 0
    default_retry_delay = 0
"#;

#[test]
fn a_task_s_own_settings_come_before_the_defaults() {
    let manifest = Manifest::from_toml(EXAMPLE).unwrap();
    let defaults = TaskSettings {
        name: None,
        limits: Amounts::from([
            ("time", seconds(30.0)),
            ("soft_time", seconds(20.0)),
            ("memory", size(64 << 20)),
            ("result", size(1000)),
        ]),
        max_retries: Some(3),
        default_retry_delay: Some(Duration::from_secs(180)),
        capabilities: None,
    };
    let own = TaskSettings {
        name: Some("other.name".to_owned()),
        // 20 s of the defaults would come after the task's own 5 s.
        limits: Amounts::from([
            ("time", seconds(5.0)),
            ("memory", size(64 << 20)),
            ("result", size(1000)),
        ]),
        max_retries: Some(0),
        default_retry_delay: Some(Duration::ZERO),
        capabilities: None,
    };
    assert_eq!(manifest.settings("run_task"), own);
    assert_eq!(manifest.settings("any_other"), defaults);
}

/// Every key there is.
const WHOLE: &str = r#"
    concurrency = 2

    [capabilities]
    env = ["GREETING"]
    http = ["GET https://*.example.com"]
    temp = "16MiB"

    [defaults]
    time_limit = 30
    soft_time_limit = 20
    cpu_time_limit = 3
    soft_cpu_time_limit = 2.5
    memory = "64MiB"
    max_retries = 3
    default_retry_delay = 180
    max_result = "1MiB"
    max_table_elements = 1000
    max_arguments = "16KiB"
    max_log = "4KiB"
    max_handles = 100
    max_random = "1MiB"
    max_host_calls = 1_000_000_000_000
    max_children = 0
    max_descendants = 10
    max_depth = 1
    max_requests = 3
    max_disk = "5GiB"

    [tasks.quiet]
    capabilities = {}

    [tasks.writer.capabilities]
    folders = { out = "read-write" }
"#;

#[test]
fn every_limit_can_be_set() {
    let manifest = Manifest::from_toml(WHOLE).unwrap();
    let whole = TaskSettings {
        name: None,
        limits: Amounts::from([
            ("time", seconds(30.0)),
            ("soft_time", seconds(20.0)),
            ("cpu_time", seconds(3.0)),
            ("soft_cpu_time", seconds(2.5)),
            ("memory", size(64 << 20)),
            ("result", size(1 << 20)),
            ("table_elements", Amount::Count(1000)),
            ("arguments", size(16 << 10)),
            ("log", size(4 << 10)),
            ("handles", Amount::Count(100)),
            ("random", size(1 << 20)),
            ("host_calls", Amount::Count(1_000_000_000_000)),
            ("children", Amount::Count(0)),
            ("descendants", Amount::Count(10)),
            ("depth", Amount::Count(1)),
            ("requests", Amount::Count(3)),
            ("disk", size(5 << 30)),
        ]),
        max_retries: Some(3),
        default_retry_delay: Some(Duration::from_secs(180)),
        capabilities: None,
    };
    assert_eq!(manifest.settings("any"), whole);
    // A task with settings of its own takes each of the others from the defaults.
    let quiet = manifest.settings("quiet");
    assert_eq!(
        quiet,
        TaskSettings {
            capabilities: Some(Capabilities::default()),
            ..whole
        }
    );
    assert_eq!(manifest.concurrency, NonZeroU16::new(2));
}

#[test]
fn every_limit_of_the_table_can_be_asked_for() {
    let mut expected = Amounts::new();
    let mut text = "[defaults]\n".to_owned();
    for (number, spec) in (1..).zip(LIMITS) {
        let (amount, written) = match (spec.unit, spec.is_soft) {
            (Unit::Size, _) => (size(number << 20), format!("'{number}MiB'")),
            (Unit::Count, _) => (Amount::Count(number), number.to_string()),
            (Unit::Time, true) => (seconds(0.5), "0.5".to_owned()),
            (Unit::Time, false) => (seconds(2.0), "2".to_owned()),
        };
        text += &format!("{} = {written}\n", spec.manifest);
        expected.insert(spec.name, amount);
    }
    let manifest = Manifest::from_toml(&text).unwrap();
    assert_eq!(manifest.defaults.limits, expected);
}

/// Each task has what it is given in memory.
#[test]
fn a_manifest_asks_for_so_much_of_a_kind() {
    let names = |count: usize, of: fn(usize) -> String| {
        let names: Vec<_> = (0..count).map(|n| format!("{:?}", of(n))).collect();
        names.join(",")
    };
    for (key, of) in [
        ("env", (|n| format!("E{n}")) as fn(usize) -> String),
        ("secrets", |n| format!("S{n}")),
        ("http", |n| format!("http://h{n}")),
        ("tcp", |n| format!("h{n}:1")),
    ] {
        let list = |count| format!("{key} = [{}]", names(count, of));
        for (table, name) in [
            ("[capabilities]", "capabilities"),
            (
                "[tasks.run_task.capabilities]",
                "tasks.run_task.capabilities",
            ),
        ] {
            assert!(Manifest::from_toml(&format!("{table}\n{}", list(64))).is_ok());
            let error = Manifest::from_toml(&format!("{table}\n{}", list(65))).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("manifest: {name}.{key}: 65 entries are too many: at most 64")
            );
        }
    }
    let folders = (0..65).map(|n| format!("f{n} = \"read-only\"\n"));
    let error = format!("[capabilities.folders]\n{}", folders.collect::<String>());
    let error = Manifest::from_toml(&error).unwrap_err().to_string();
    assert!(
        error.contains("capabilities.folders: 65 entries"),
        "{error}"
    );
}

#[test]
fn a_task_s_own_capabilities_replace_the_module_s() {
    let manifest = Manifest::from_toml(WHOLE).unwrap();
    assert_eq!(manifest.capabilities("any"), &manifest.capabilities);
    assert!(manifest.capabilities.env.contains("GREETING"));
    assert_eq!(manifest.capabilities("quiet"), &Capabilities::default());
    let writer = manifest.capabilities("writer");
    assert!(writer.env.is_empty() && writer.folders.contains_key("out"));
}

/// As the first version of Petiole wrote them into catalogs.
#[test]
fn manifests_of_before_can_be_read() {
    let json = r#"{
        "defaults": {"time_limit": 10.0, "memory": 67108864},
        "tasks": {"run_task": {"name": "other.name", "max_result": 1000}}
    }"#;
    let manifest: Manifest = serde_json::from_str(json).unwrap();
    let settings = manifest.settings("run_task");
    assert_eq!(settings.limits["time"], seconds(10.0));
    assert_eq!(settings.limits["result"], size(1000));
    assert_eq!(manifest.capabilities("run_task"), &Capabilities::default());
    assert_eq!(manifest.concurrency, None);
}

#[test]
fn json_gives_the_manifest_back() {
    for text in [
        EXAMPLE,
        WHOLE,
        "",
        "[defaults]\ntime_limit = 0.3",
        "[defaults]\ntime_limit = 31535999.999",
    ] {
        let manifest = Manifest::from_toml(text).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(
            serde_json::from_str::<Manifest>(&json).unwrap(),
            manifest,
            "{json}"
        );
    }
    assert_eq!(serde_json::to_string(&Manifest::default()).unwrap(), "{}");
    assert!(serde_json::from_str::<Manifest>(r#"{"defaults":{"time_limit":0}}"#).is_err());
}

#[test]
fn sizes_have_units() {
    for text in ["67108864", "\"64MiB\"", "\"64M\"", "\"65536 KiB\""] {
        let manifest = Manifest::from_toml(&format!("[defaults]\nmemory = {text}")).unwrap();
        assert_eq!(manifest.defaults.limits["memory"], size(64 << 20), "{text}");
    }
}

#[test]
fn bad_manifests_say_which_key_is_wrong() {
    let long = format!("[tasks.a]\nname = \"{}\"", "n".repeat(256));
    let table = [
        ("time_limit = 1", "time_limit"),
        ("[defaults]\ntime_limt = 1", "time_limt"),
        ("[tasks.a]\ncapabilities = [\"http\"]", "capabilities"),
        ("[tasks.a.capabilities]\nhtp = []", "htp"),
        ("[capabilities]\nnetworks = [\"10.0.0.0/8\"]", "networks"),
        ("[defaults.capabilities]\nenv = []", "defaults.capabilities"),
        ("concurrency = 0", "nonzero"),
        ("concurrency = 65536", "65536"),
        ("[defaults]\ncpu_time_limit = 0", "defaults.cpu_time_limit"),
        (
            "[tasks.a]\ncpu_time_limit = 5\nsoft_cpu_time_limit = 6",
            "tasks.a.soft_cpu_time_limit",
        ),
        ("[defaults]\nmax_children = -1", "max_children"),
        ("[defaults]\nmax_depth = 1.5", "max_depth"),
        ("[defaults]\nmax_disk = 0", "0 is not a size"),
        ("[defaults]\ntime_limit = 0", "defaults.time_limit"),
        ("[defaults]\ntime_limit = 0.0004", "defaults.time_limit"),
        ("[defaults]\ntime_limit = -1", "-1"),
        ("[defaults]\ntime_limit = nan", "NaN"),
        ("[defaults]\ntime_limit = inf", "inf"),
        ("[defaults]\ntime_limit = 1e300", "from 0 to 31536000"),
        ("[defaults]\ntime_limit = 31536001", "31536001"),
        ("[defaults]\ntime_limit = \"5s\"", "a number of seconds"),
        (
            "[defaults]\ntime_limit = 5\nsoft_time_limit = 5",
            "defaults.soft_time_limit",
        ),
        ("[defaults]\nmemory = 0", "0 is not a size"),
        ("[defaults]\nmemory = -5", "-5 is not a size"),
        ("[defaults]\nmemory = \"1025GiB\"", "1025GiB is not a size"),
        (
            "[defaults]\nmemory = \"1.5MiB\"",
            "\"1.5MiB\" is not a size",
        ),
        (
            "[defaults]\nmemory = \"99999999999999999999GiB\"",
            "is not a size",
        ),
        ("[defaults]\nmemory = 1.5", "a number of bytes"),
        ("[defaults]\nmax_retries = -1", "max_retries"),
        ("[tasks.a]\nname = \"\"", "tasks.a.name"),
        (&long, "tasks.a.name"),
        ("[defaults]\nname = \"a.b\"", "defaults.name"),
        ("[tasks.run-task]\ntime_limit = 1", "run_task"),
        ("[tasks.\"a b\"]\ntime_limit = 1", "a b"),
        ("[tasks.a]\nname = \"x y\"", "tasks.a.name"),
        ("[tasks.a]\nname = \"x\\u202ey\"", "tasks.a.name"),
        (
            "[tasks.a]\nname = \"x\"\n[tasks.b]\nname = \"x\"",
            "tasks.b.name",
        ),
        ("not toml", "TOML"),
    ];
    for (text, part) in table {
        let error = Manifest::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn any_time_and_size_survive_json(seconds in 0.001..31_536_000.0_f64, bytes in 1..=4_294_967_296_u64) {
        let text = format!("[defaults]\ntime_limit = {seconds:?}\nmemory = {bytes}");
        let manifest = Manifest::from_toml(&text).unwrap();
        let limit = Duration::from_micros(manifest.defaults.limits["time"].number());
        prop_assert!((limit.as_secs_f64() - seconds).abs() <= 0.001);
        prop_assert_eq!(manifest.defaults.limits["memory"], size(bytes));
        let json = serde_json::to_string(&manifest).unwrap();
        prop_assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn no_text_panics(text in "\\PC*", key in "[a-z_]{1,16}") {
        let _ = Manifest::from_toml(&text);
        let _ = Manifest::from_toml(&format!("[defaults]\n{key} = {text}"));
        let _ = Manifest::from_toml(&format!("[defaults]\nmemory = {text:?}"));
    }
}
