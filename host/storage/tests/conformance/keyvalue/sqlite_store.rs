//! Cases of SQLite's own: files.

use std::time::Duration;

use petiole_permits::{KeyValueError, PAGE};
use petiole_storage::keyvalue::{ANSWER_WAIT, ConnectError};
use tokio::time::Instant;

use super::connect;

#[tokio::test]
async fn values_outlive_the_process() {
    let subject = super::sqlite().await;
    let storage = connect(&subject.url).await.unwrap();
    storage.set("a", "1".into()).await.unwrap();
    drop(storage);
    let storage = connect(&subject.url).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), Some("1".into()));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder/keyvalue.db");
    let error = connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_path_that_looks_like_a_uri_is_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file:kv.db?mode=memory");
    let storage = connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    storage.set("a", "1".into()).await.unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn what_others_have_stored_ends_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvalue.db");
    let storage = connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    let keys: Vec<_> = (0..PAGE + 1).map(|n| format!("{n:04}")).collect();
    for half in keys.chunks(PAGE / 2) {
        let half = half.iter().map(|key| (format!("own:{key}"), vec![1]));
        storage.set_many(half.collect()).await.unwrap();
    }
    // not UTF-8, in the middle of the first page
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute(
            "INSERT INTO petiole_keyvalue (key, value) VALUES (?1, x'01')",
            [b"own:0500\xff".as_slice()],
        )
        .unwrap();
    assert_eq!(
        super::suite::list(&*storage, "own:").await,
        keys.into_iter().collect()
    );
}

#[tokio::test]
async fn a_file_that_somebody_keeps_locked_is_waited_for_so_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvalue.db");
    let storage = connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    storage.set("a", "1".into()).await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    let error = storage.set("a", "2".into()).await.unwrap_err();
    assert!(matches!(error, KeyValueError::Unreachable(_)), "{error:?}");
    assert!(started.elapsed() < ANSWER_WAIT + Duration::from_secs(2));
    assert_eq!(storage.get("a").await.unwrap(), Some("1".into()));
    other.execute_batch("COMMIT").unwrap();
    storage.set("a", "3".into()).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), Some("3".into()));
}
