//! The cases that every storage passes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use petiole_permits::{KeyValue, KeyValueError, MAX_BATCH_SIZE, MAX_KEY, MAX_VALUE, PAGE, Swap};

use super::connect;
use crate::Subject;

async fn storage(subject: &Subject) -> Arc<dyn KeyValue> {
    connect(&subject.url).await.unwrap()
}

/// The keys of a prefix, from all pages.
pub(crate) async fn list(storage: &dyn KeyValue, prefix: &str) -> BTreeSet<String> {
    let (mut keys, mut cursor) = (BTreeSet::new(), None);
    loop {
        let page = storage.list_keys(prefix, cursor.as_deref()).await.unwrap();
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return keys;
        }
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, Vec<u8>)> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into()
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

pub(crate) async fn what_is_set_is_there(subject: &Subject) {
    let storage = storage(subject).await;
    assert_eq!(storage.get("a").await.unwrap(), None);
    assert!(!storage.exists("a").await.unwrap());
    for value in ["one", "", "two"] {
        storage.set("a", value.into()).await.unwrap();
        assert_eq!(storage.get("a").await.unwrap(), Some(value.into()));
        assert!(storage.exists("a").await.unwrap());
    }
}

pub(crate) async fn what_is_deleted_is_gone(subject: &Subject) {
    let storage = storage(subject).await;
    storage
        .set_many(pairs([("a", "1"), ("b", "2")]))
        .await
        .unwrap();
    storage.delete("a").await.unwrap();
    storage.delete("never there").await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), None);
    assert!(!storage.exists("a").await.unwrap());
    assert!(storage.exists("b").await.unwrap());
}

/// Keys that mean something to somebody: to a path, a pattern, a protocol, SQL.
const ODD_KEYS: [&str; 14] = [
    "*",
    "?[a-z]\\",
    "..",
    "../other:secret",
    "/",
    "a\0b",
    "a",
    "line\r\nbreak",
    "\r\n$3\r\nDEL\r\n",
    "'; DROP TABLE petiole_keyvalue; --",
    "%",
    "ключ 🗝",
    "\u{202e}",
    " ",
];

pub(crate) async fn any_text_is_a_key_and_any_bytes_a_value(subject: &Subject) {
    let storage = storage(subject).await;
    let long = "k".repeat(MAX_KEY);
    let keys: Vec<&str> = ODD_KEYS.into_iter().chain([long.as_str()]).collect();
    for (number, key) in keys.iter().enumerate() {
        let value = [&[0, 255, b'\r', b'\n'], number.to_string().as_bytes()].concat();
        storage.set(&format!("own:{key}"), value).await.unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        let value = [&[0, 255, b'\r', b'\n'], number.to_string().as_bytes()].concat();
        assert_eq!(
            storage.get(&format!("own:{key}")).await.unwrap(),
            Some(value),
            "{key:?}"
        );
    }
    let listed = list(&*storage, "own:").await;
    assert_eq!(listed, keys.into_iter().map(str::to_owned).collect());
    let large: Vec<u8> = (0..=250).cycle().take(MAX_VALUE).collect();
    storage.set("own:large", large.clone()).await.unwrap();
    assert_eq!(storage.get("own:large").await.unwrap(), Some(large));
}

pub(crate) async fn batches_keep_their_order(subject: &Subject) {
    let storage = storage(subject).await;
    storage
        .set_many(pairs([("a", "1"), ("b", "2"), ("a", "3"), ("c", "")]))
        .await
        .unwrap();
    let keys = strings(["c", "missing", "a", "b", "a"]);
    assert_eq!(
        storage.get_many(&keys).await.unwrap(),
        [Some(""), None, Some("3"), Some("2"), Some("3")].map(|value| value.map(Vec::from))
    );
    storage
        .delete_many(&strings(["a", "missing", "c", "a"]))
        .await
        .unwrap();
    assert_eq!(
        storage.get_many(&keys).await.unwrap(),
        [None, None, None, Some("2"), None].map(|value| value.map(Vec::from))
    );
}

pub(crate) async fn empty_batches_do_nothing(subject: &Subject) {
    let storage = storage(subject).await;
    storage.set_many(Vec::new()).await.unwrap();
    storage.delete_many(&[]).await.unwrap();
    assert_eq!(storage.get_many(&[]).await.unwrap(), Vec::new());
    assert_eq!(list(&*storage, "").await, BTreeSet::new());
}

pub(crate) async fn more_than_a_batch_is_not_read(subject: &Subject) {
    let storage = storage(subject).await;
    let half = vec![7; MAX_BATCH_SIZE / 2];
    storage.set("half", half.clone()).await.unwrap();
    storage.set("one", vec![1]).await.unwrap();
    let two = storage.get_many(&strings(["half", "half"])).await.unwrap();
    assert_eq!(two, [Some(half.clone()), Some(half)]);
    match storage
        .get_many(&strings(["half", "half", "one"]))
        .await
        .unwrap_err()
    {
        KeyValueError::TooLarge { size, limit } => {
            assert_eq!((size, limit), (MAX_BATCH_SIZE + 1, MAX_BATCH_SIZE));
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_list_has_every_key_of_its_prefix_and_no_other(subject: &Subject) {
    let storage = storage(subject).await;
    let keys = [
        "kv:shop:a",
        "kv:shop:b",
        "kv:shop:*",
        "kv:shop2:secret",
        "kv:sho",
        "kv:shop",
        "kv:shop;",
        "kv:s*p:secret",
        "kv:[a-z]hop:secret",
        "other",
    ];
    storage
        .set_many(keys.map(|key| (key.to_owned(), vec![1])).into())
        .await
        .unwrap();
    for (prefix, expected) in [
        ("kv:shop:", &["*", "a", "b"][..]),
        ("kv:s*p:", &["secret"]),
        ("kv:?hop:", &[]),
        ("kv:[a-z]hop:", &["secret"]),
        ("kv:[rst]hop:", &[]),
        ("kv:shop\\:", &[]),
        ("none:", &[]),
    ] {
        let listed = list(&*storage, prefix).await;
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{prefix}");
    }
}

pub(crate) async fn a_list_comes_in_pages(subject: &Subject) {
    let storage = storage(subject).await;
    let keys: Vec<_> = (0..PAGE * 5 / 2).map(|n| format!("key {n}")).collect();
    for chunk in keys.chunks(500) {
        let chunk = chunk.iter().map(|key| (format!("own:{key}"), vec![1]));
        storage.set_many(chunk.collect()).await.unwrap();
    }
    let first = storage.list_keys("own:", None).await.unwrap();
    // Redis rounds up to all keys in one bucket of its hash table.
    assert!(first.keys.len() <= PAGE + 100, "{}", first.keys.len());
    assert!(first.cursor.is_some());
    assert_eq!(list(&*storage, "own:").await, keys.into_iter().collect());
}

pub(crate) async fn a_forged_cursor_reaches_no_other_prefix(subject: &Subject) {
    let storage = storage(subject).await;
    storage
        .set_many(pairs([
            ("a:secret", ""),
            ("b:own", ""),
            ("b:z", ""),
            ("c:secret", ""),
        ]))
        .await
        .unwrap();
    for cursor in [
        "",
        "0",
        "1",
        "a:",
        "c:",
        "../",
        "\0",
        "*",
        "\u{ff}",
        "-1",
        "1e3",
        "18446744073709551616",
    ] {
        match storage.list_keys("b:", Some(cursor)).await {
            Ok(page) => {
                for key in page.keys {
                    assert!(["own", "z"].contains(&&*key), "{cursor:?}: {key}");
                }
            }
            Err(KeyValueError::Cursor(_)) => {}
            Err(error) => panic!("{cursor:?}: {error:?}"),
        }
    }
}

pub(crate) async fn numbers_are_counted(subject: &Subject) {
    let storage = storage(subject).await;
    assert_eq!(storage.increment("n", 5).await.unwrap(), 5);
    assert_eq!(storage.increment("n", -7).await.unwrap(), -2);
    assert_eq!(storage.increment("n", 0).await.unwrap(), -2);
    assert_eq!(storage.get("n").await.unwrap(), Some("-2".into()));
    storage.set("n", i64::MAX.to_string().into()).await.unwrap();
    assert_eq!(storage.increment("n", 0).await.unwrap(), i64::MAX);
    assert_eq!(storage.increment("n", -1).await.unwrap(), i64::MAX - 1);
    assert_eq!(
        storage.increment("least", i64::MIN).await.unwrap(),
        i64::MIN
    );
}

pub(crate) async fn what_is_no_number_is_not_counted(subject: &Subject) {
    let storage = storage(subject).await;
    let table = [
        ("", 1),
        ("one", 1),
        ("1.5", 1),
        ("+1", 1),
        ("01", 1),
        (" 1", 1),
        ("1\n", 1),
        ("9223372036854775808", 1),
        ("9223372036854775807", 1),
        ("-9223372036854775808", -1),
    ];
    for (value, delta) in table {
        storage.set("n", value.into()).await.unwrap();
        let error = storage.increment("n", delta).await.unwrap_err();
        assert!(
            matches!(error, KeyValueError::NotCountable),
            "{value:?}: {error:?}"
        );
        assert_eq!(storage.get("n").await.unwrap(), Some(value.into()));
    }
}

pub(crate) async fn all_who_count_at_once_count(subject: &Subject) {
    let storages = join_all((0..4).map(|_| storage(subject))).await;
    let counting = storages
        .iter()
        .flat_map(|storage| (0..25).map(|_| storage.increment("n", 1)));
    let sums: BTreeSet<i64> = join_all(counting)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(sums, (1..=100).collect());
}

pub(crate) async fn a_swap_needs_the_expected_value(subject: &Subject) {
    let storage = storage(subject).await;
    let swap = async |expected: Option<&str>, value: &str| {
        let expected = expected.map(str::as_bytes);
        storage
            .compare_and_swap("k", expected, value.into())
            .await
            .unwrap()
    };
    assert_eq!(swap(Some(""), "no").await, Swap::Changed(None));
    assert_eq!(swap(Some("x"), "no").await, Swap::Changed(None));
    assert_eq!(swap(None, "").await, Swap::Done);
    assert_eq!(swap(None, "no").await, Swap::Changed(Some("".into())));
    assert_eq!(swap(Some(""), "one").await, Swap::Done);
    assert_eq!(
        swap(Some(""), "no").await,
        Swap::Changed(Some("one".into()))
    );
    assert_eq!(swap(Some("one"), "two").await, Swap::Done);
    assert_eq!(storage.get("k").await.unwrap(), Some("two".into()));
    let large = vec![3; MAX_VALUE];
    storage.set("k", large.clone()).await.unwrap();
    assert_eq!(swap(None, "no").await, Swap::Changed(Some(large)));
}

pub(crate) async fn of_two_who_swap_at_once_one_is_told(subject: &Subject) {
    let storages = join_all((0..8).map(|_| storage(subject))).await;
    for round in 0..20 {
        let key = format!("round {round}");
        let swaps = storages
            .iter()
            .enumerate()
            .map(|(n, storage)| storage.compare_and_swap(&key, None, n.to_string().into()));
        let swaps: Vec<Swap> = join_all(swaps)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let winner = swaps.iter().position(|swap| *swap == Swap::Done).unwrap();
        for (n, swap) in swaps.into_iter().enumerate() {
            if n != winner {
                assert_eq!(swap, Swap::Changed(Some(winner.to_string().into())));
            }
        }
    }
}

pub(crate) async fn others_see_what_is_set(subject: &Subject) {
    let (writer, reader) = (storage(subject).await, storage(subject).await);
    writer.set("a", "1".into()).await.unwrap();
    assert_eq!(reader.get("a").await.unwrap(), Some("1".into()));
    reader.delete("a").await.unwrap();
    assert!(!writer.exists("a").await.unwrap());
}

pub(crate) async fn opened_by_many_at_once(subject: &Subject) {
    let storages = join_all((0..8).map(|_| storage(subject))).await;
    let keys: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    let set = storages
        .iter()
        .zip(&keys)
        .map(|(storage, key)| storage.set(key, key.clone().into()));
    for set in join_all(set).await {
        set.unwrap();
    }
    for key in &keys {
        assert_eq!(
            storages[0].get(key).await.unwrap(),
            Some(key.clone().into())
        );
    }
}
