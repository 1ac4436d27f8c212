use std::sync::Barrier;
use std::sync::mpsc::channel;

use futures::future::join_all;

use super::*;

const WAIT: Duration = Duration::from_secs(20);
const TABLE: &str = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY) STRICT";

async fn open(path: &Path) -> Result<Database, DatabaseError> {
    Database::open(path.to_owned(), Waits::answer(WAIT), |connection| {
        connection.execute_batch(TABLE)
    })
    .await
}

fn insert(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO numbers VALUES (?1)")?
        .execute([number])
        .map(drop)
}

async fn numbers(database: &Database) -> Vec<i64> {
    let all = |connection: &Connection| {
        connection
            .prepare("SELECT number FROM numbers ORDER BY number")?
            .query_map([], |row| row.get(0))?
            .collect()
    };
    database.read(all).await.unwrap()
}

/// Blocks the thread until a message to go on, so that operations sent meanwhile are one batch.
async fn held(database: &Database) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (go_on, wait) = channel::<()>();
    let (begun, is_held) = oneshot::channel();
    let database = database.clone();
    let hold = tokio::spawn(async move {
        let held = database.read(move |_| {
            begun.send(()).unwrap();
            Ok(wait.recv())
        });
        held.await.unwrap().unwrap();
    });
    is_held.await.unwrap();
    (go_on, hold)
}

#[tokio::test]
async fn an_operation_that_fails_halfway_leaves_nothing_behind_and_its_neighbours_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("file.db")).await.unwrap();
    let (go_on, hold) = held(&database).await;
    let whole = |number| database.write(move |connection| insert(connection, number));
    let halfway = database.write(|connection| {
        insert(connection, 10)?;
        // there is one already
        insert(connection, 1)
    });
    let neighbours = async { tokio::join!(biased; whole(1), halfway, whole(2)) };
    let waiting = async {
        while database.operations.capacity() > WAITING - 3 {
            tokio::task::yield_now().await;
        }
        go_on.send(()).unwrap();
    };
    let ((before, failed, after), ()) = tokio::join!(neighbours, waiting);
    hold.await.unwrap();
    before.unwrap();
    after.unwrap();
    let error = failed.unwrap_err();
    assert!(
        error.to_string().contains("UNIQUE") && !error.is_passing(),
        "{error}"
    );
    assert_eq!(numbers(&database).await, [1, 2]);
}

#[tokio::test]
async fn an_answer_is_waited_for_however_long_it_takes_or_as_long_as_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("file.db")).await.unwrap();
    let with = |answer| Database {
        waits: Waits { lock: WAIT, answer },
        ..database.clone()
    };
    let (hasty, patient) = (with(Some(Duration::ZERO)), with(None));
    let (go_on, hold) = held(&patient).await;
    let late = hasty.write(|connection| insert(connection, 1)).await;
    assert!(matches!(late, Err(DatabaseError::Late(_))), "{late:?}");
    let waiting = patient.write(|connection| insert(connection, 2));
    let release = async {
        while database.operations.capacity() > WAITING - 2 {
            tokio::task::yield_now().await;
        }
        go_on.send(()).unwrap();
    };
    let (written, ()) = tokio::join!(waiting, release);
    written.unwrap();
    hold.await.unwrap();
    // One that is late may be done all the same.
    assert_eq!(numbers(&database).await, [1, 2]);
}

#[tokio::test]
async fn a_transaction_that_is_given_up_is_so_for_everyone_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("file.db")).await.unwrap();
    let (go_on, hold) = held(&database).await;
    let whole = |number| database.write(move |connection| insert(connection, number));
    // As SQLite itself does when the disk is full.
    let given_up = database.write(|connection| {
        connection.execute_batch("ROLLBACK")?;
        insert(connection, i64::MAX)?;
        connection.execute_batch("nonsense")
    });
    let waiting = async {
        while database.operations.capacity() > WAITING - 3 {
            tokio::task::yield_now().await;
        }
        go_on.send(()).unwrap();
    };
    let all = async { tokio::join!(biased; whole(1), given_up, whole(2)) };
    let ((before, failed, after), ()) = tokio::join!(all, waiting);
    hold.await.unwrap();
    for result in [before, failed, after] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }
    // The one that was itself outside of the transaction.
    assert_eq!(numbers(&database).await, [i64::MAX]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_is_opened_by_many_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let openings = (0..8).map(|number| {
            let path = path.clone();
            tokio::spawn(async move {
                let database = open(&path).await?;
                database
                    .write(move |connection| insert(connection, number))
                    .await
            })
        });
        for opened in join_all(openings).await {
            opened.unwrap().unwrap();
        }
        let all: Vec<i64> = (0..8).collect();
        assert_eq!(numbers(&open(&path).await.unwrap()).await, all);
    }
}

/// The busy timeout does not cover the switch to WAL: all threads make it at the same moment.
#[test]
fn threads_that_switch_to_wal_at_once_wait_for_each_other() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    File::open(path.clone(), WAIT, |connection| {
                        connection.execute_batch(TABLE)
                    })
                    .map(drop)
                    .unwrap();
                });
            }
        });
    }
}

#[tokio::test]
async fn a_file_that_is_gone_takes_and_gives_nothing_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, aside) = (folder.path().join("file.db"), folder.path().join("aside"));
    let database = open(&path).await.unwrap();
    let write = || database.write(|connection| insert(connection, 1));
    std::fs::rename(&path, &aside).unwrap();
    for replaced in [false, true] {
        if replaced {
            std::fs::write(&path, "").unwrap();
        }
        let written = write().await.unwrap_err();
        let read = database.read(|_| Ok(())).await.unwrap_err();
        for error in [written, read] {
            assert!(
                error.to_string().contains("was deleted or replaced"),
                "{error}"
            );
        }
    }
    std::fs::rename(&aside, &path).unwrap();
    write().await.unwrap();
    assert_eq!(numbers(&database).await, [1]);
}

#[tokio::test]
async fn a_file_that_somebody_keeps_locked_is_an_error_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.db");
    let wait = Duration::from_secs(2);
    let database = Database::open(path.clone(), Waits::answer(wait), |connection| {
        connection.execute_batch(TABLE)
    });
    let database = database.await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = database
        .write(|connection| insert(connection, 1))
        .await
        .unwrap_err();
    // Before the time is up, so that the error gives the reason.
    assert!(
        matches!(error, DatabaseError::Sqlite(_)) && error.is_passing(),
        "{error:?}"
    );
    assert_eq!(numbers(&database).await, [0; 0]);
    other.execute_batch("COMMIT").unwrap();
    database
        .write(|connection| insert(connection, 1))
        .await
        .unwrap();
}
