//! The cases that every backend passes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use petiole_celery::plan::{Ended, Plan, Settle};
use petiole_celery::{
    Commit, Destination, Exception, Message, Publication, RunKey, State, TaskMeta, json,
};
use petiole_storage::results::{End, RESULT_EXPIRES, ResultBackend, Results};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{PATIENCE, Subject};

pub(crate) async fn connect(url: &str, expires: Duration) -> Arc<dyn ResultBackend> {
    match Results::connect(&url.into(), expires).await {
        Ok(Results::Backend(backend)) => backend,
        other => panic!("{url}: {other:?}"),
    }
}

async fn backend(subject: &Subject) -> Arc<dyn ResultBackend> {
    connect(&subject.url, RESULT_EXPIRES).await
}

/// A result of a new task.
pub(crate) fn meta(status: State, result: Value) -> TaskMeta {
    let done = !matches!(status, State::Started | State::Retry);
    TaskMeta {
        task_id: uuid::Uuid::new_v4().to_string(),
        status,
        result,
        traceback: None,
        children: Vec::new(),
        date_done: done.then(jiff::Timestamp::now),
        group_id: None,
        parent_id: None,
        extended: None,
    }
}

/// A later state of the same task.
fn then(earlier: &TaskMeta, status: State, result: Value) -> TaskMeta {
    TaskMeta {
        task_id: earlier.task_id.clone(),
        ..meta(status, result)
    }
}

fn error(message: &str) -> Value {
    Exception::new("builtins", "RuntimeError", message).to_json()
}

pub(crate) async fn stored_is_fetched(subject: &Subject) {
    let backend = backend(subject).await;
    let mut failure = error("boom ✗ \u{0}");
    let arguments = failure["exc_message"].as_array_mut().unwrap();
    arguments.push(json::parse(br#"[NaN, -0, 1e999, 18446744073709551616, "\ud800"]"#).unwrap());
    let mut meta = meta(State::Failure, failure);
    meta.traceback = Some("guest stack".to_owned());
    meta.children = vec![json!([["child", meta.task_id], null])];
    meta.group_id = Some("group".to_owned());
    meta.parent_id = Some("parent".to_owned());
    backend.store(&meta).await.unwrap();
    assert_eq!(
        backend.fetch(&meta.task_id).await.unwrap(),
        Some(meta.to_json())
    );
}

pub(crate) async fn unknown_is_none(subject: &Subject) {
    let backend = backend(subject).await;
    for id in ["no such task", "", "'; DROP TABLE petiole_result; --"] {
        assert_eq!(backend.fetch(id).await.unwrap(), None);
    }
}

pub(crate) async fn success_stays(subject: &Subject) {
    let backend = backend(subject).await;
    let success = meta(State::Success, json!({"pages": 3}));
    backend.store(&success).await.unwrap();
    let late = [
        (State::Failure, error("late")),
        (State::Retry, error("late")),
        (State::Started, json!({})),
        (State::Revoked, error("revoked")),
        (State::Custom("PROGRESS".to_owned()), json!({"percent": 10})),
        (State::Success, json!("another")),
    ];
    for (state, result) in late {
        backend.store(&then(&success, state, result)).await.unwrap();
        assert_eq!(
            backend.fetch(&success.task_id).await.unwrap(),
            Some(success.to_json())
        );
    }
}

pub(crate) async fn later_states_replace_earlier_ones(subject: &Subject) {
    let backend = backend(subject).await;
    let first = meta(State::Started, json!({"pid": 1}));
    let states = [
        first.clone(),
        then(
            &first,
            State::Custom("SUCCESS-ish".to_owned()),
            json!({"status": "SUCCESS"}),
        ),
        then(&first, State::Retry, error("again")),
        then(&first, State::Failure, error("for good")),
        then(&first, State::Success, json!(42)),
    ];
    for state in &states {
        backend.store(state).await.unwrap();
        assert_eq!(
            backend.fetch(&first.task_id).await.unwrap(),
            Some(state.to_json())
        );
    }
}

pub(crate) async fn large_result(subject: &Subject) {
    let backend = backend(subject).await;
    let meta = meta(
        State::Success,
        Value::String("0123456789abcdef".repeat(5 * 1024 * 1024 / 16)),
    );
    backend.store(&meta).await.unwrap();
    backend
        .store(&then(&meta, State::Failure, error("late")))
        .await
        .unwrap();
    assert_eq!(
        backend.fetch(&meta.task_id).await.unwrap(),
        Some(meta.to_json())
    );
}

pub(crate) async fn hundred_at_once(subject: &Subject) {
    let backend = backend(subject).await;
    let metas: Vec<_> = (0..100).map(|n| meta(State::Success, json!(n))).collect();
    for stored in join_all(metas.iter().map(|meta| backend.store(meta))).await {
        stored.unwrap();
    }
    for (meta, fetched) in metas
        .iter()
        .zip(join_all(metas.iter().map(|meta| backend.fetch(&meta.task_id))).await)
    {
        assert_eq!(fetched.unwrap(), Some(meta.to_json()));
    }
}

fn plan(queue: &str, ended: Ended) -> Plan {
    let message = Message {
        body: b"\0\xff body".as_slice().into(),
        ..Message::default()
    };
    Plan {
        results: Vec::new(),
        publications: vec![Publication {
            destination: Destination::queue(queue),
            message,
            mandatory: true,
            not_before: None,
        }],
        settle: Settle::Ack,
        ended,
    }
}

pub(crate) fn run() -> RunKey {
    let headers = json!({"task": "a.b", "id": uuid::Uuid::new_v4().to_string()});
    let message = Message {
        headers: headers.as_object().unwrap().clone(),
        ..Message::default()
    };
    RunKey::of(&message, "q").unwrap()
}

/// Commits a run with these results.
pub(crate) async fn commit(
    backend: &dyn ResultBackend,
    run: &RunKey,
    record: &[u8],
    results: &[TaskMeta],
    replaces: bool,
) -> Option<Commit<'static>> {
    let end = End {
        run,
        record,
        results,
        replaces,
    };
    backend.commit(end).await.unwrap()
}

pub(crate) async fn the_first_commit_of_a_run_stays(subject: &Subject) {
    let backend = backend(subject).await;
    let run = run();
    assert_eq!(backend.committed(&run).await.unwrap(), None);

    let first = Commit::of(&plan("next", Ended::Success)).record(1);
    let (own, step) = (meta(State::Retry, json!(1)), meta(State::Failure, json!(2)));
    let results = [own.clone(), step.clone()];
    assert_eq!(commit(&*backend, &run, &first, &results, false).await, None);
    let committed = backend.committed(&run).await.unwrap();
    assert_eq!(committed, Commit::read(first.clone()));
    for meta in &results {
        let stored = backend.fetch(&meta.task_id).await.unwrap();
        assert_eq!(stored, Some(meta.to_json()));
    }

    // A worker whose answer was lost commits the same again; another delivery of the run commits nothing.
    assert_eq!(commit(&*backend, &run, &first, &results, false).await, None);
    let second = Commit::of(&plan("other", Ended::Success)).record(2);
    let late = [then(&own, State::Success, json!(3))];
    let answer = commit(&*backend, &run, &second, &late, false).await;
    assert_eq!(answer, Commit::read(first.clone()));
    assert_eq!(
        backend.fetch(&own.task_id).await.unwrap(),
        Some(own.to_json())
    );

    let done = Commit::done(Settle::Reject).record(0);
    assert_eq!(commit(&*backend, &run, &done, &late, true).await, None);
    assert_eq!(
        backend.committed(&run).await.unwrap(),
        Commit::read(done.clone())
    );
    assert_eq!(
        backend.fetch(&own.task_id).await.unwrap(),
        Some(late[0].to_json())
    );
}

pub(crate) async fn of_many_commits_of_a_run_one_is_the_first(subject: &Subject) {
    let backend = backend(subject).await;
    let run = run();
    let own = meta(State::Success, json!(0));
    let commits: Vec<_> = (0..50)
        .map(|n| {
            // Alike, as for a task that sends nothing.
            let record = Commit::of(&plan("next", Ended::Success)).record(n);
            (record, [then(&own, State::Success, json!(n))])
        })
        .collect();
    let answers = join_all(
        commits
            .iter()
            .map(|(record, results)| commit(&*backend, &run, record, results, false)),
    )
    .await;
    let first = answers.iter().position(Option::is_none).unwrap();
    for (place, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_none(), place == first, "{place}");
    }
    let stored = backend.fetch(&own.task_id).await.unwrap().unwrap();
    assert_eq!(stored["result"], json!(first));
}

/// However short the lifetime of results is: a message may come again later.
pub(crate) async fn a_commit_outlives_its_results(subject: &Subject) {
    let backend = connect(&subject.url, Duration::from_secs(1)).await;
    let (run, record) = (run(), Commit::done(Settle::Ack).record(0));
    let own = meta(State::Success, json!(1));
    commit(&*backend, &run, &record, std::slice::from_ref(&own), false).await;
    let deadline = Instant::now() + PATIENCE;
    while backend.fetch(&own.task_id).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "still there after {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(backend.committed(&run).await.unwrap(), Commit::read(record));
}

pub(crate) async fn a_run_that_has_ended_says_no_more(subject: &Subject) {
    let backend = backend(subject).await;
    let (run, own) = (run(), meta(State::Failure, error("for good")));
    let progress = |percent| then(&own, State::Custom("PROGRESS".to_owned()), json!(percent));
    let first = progress(1);
    backend.tell(&run, &first).await.unwrap();
    let stored = backend.fetch(&own.task_id).await.unwrap();
    assert_eq!(stored, Some(first.to_json()));
    let record = Commit::done(Settle::Ack).record(0);
    commit(&*backend, &run, &record, std::slice::from_ref(&own), false).await;
    backend.tell(&run, &progress(2)).await.unwrap();
    let stored = backend.fetch(&own.task_id).await.unwrap();
    assert_eq!(stored, Some(own.to_json()));
}

pub(crate) async fn expires(subject: &Subject) {
    let backend = connect(&subject.url, Duration::from_secs(1)).await;
    let meta = meta(State::Success, json!(1));
    backend.store(&meta).await.unwrap();
    assert!(backend.fetch(&meta.task_id).await.unwrap().is_some());
    let deadline = Instant::now() + PATIENCE;
    while backend.fetch(&meta.task_id).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "still there after {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
    // An expired result no longer keeps others out.
    let again = then(&meta, State::Failure, error("new"));
    backend.store(&again).await.unwrap();
    assert_eq!(
        backend.fetch(&meta.task_id).await.unwrap(),
        Some(again.to_json())
    );
}

pub(crate) async fn readers_on_other_connections_see_results(subject: &Subject) {
    let (writer, reader) = (backend(subject).await, backend(subject).await);
    let success = meta(State::Success, json!([1, "two", null]));
    writer.store(&success).await.unwrap();
    assert_eq!(
        reader.fetch(&success.task_id).await.unwrap(),
        Some(success.to_json())
    );
    reader
        .store(&then(&success, State::Failure, error("late")))
        .await
        .unwrap();
    assert_eq!(
        writer.fetch(&success.task_id).await.unwrap(),
        Some(success.to_json())
    );
}

pub(crate) async fn wait_ends_with_a_final_state(subject: &Subject) {
    let (writer, reader) = (backend(subject).await, backend(subject).await);
    for (state, result) in [
        (State::Success, json!(1)),
        (State::Failure, error("boom")),
        (State::Revoked, error("expired")),
    ] {
        let started = meta(State::Started, json!({}));
        let last = then(&started, state, result);
        writer.store(&started).await.unwrap();
        let waiting = tokio::spawn({
            let (reader, id) = (reader.clone(), started.task_id.clone());
            async move { reader.wait(&id, Instant::now() + PATIENCE).await }
        });
        writer.store(&last).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), Some(last.to_json()));
    }
}

pub(crate) async fn wait_ends_with_its_deadline(subject: &Subject) {
    let backend = backend(subject).await;
    let retry = meta(State::Retry, error("again"));
    backend.store(&retry).await.unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    assert_eq!(backend.wait(&retry.task_id, deadline).await.unwrap(), None);
}

pub(crate) async fn opened_by_many_at_once(subject: &Subject) {
    let backends = join_all((0..8).map(|_| backend(subject))).await;
    let metas: Vec<_> = (0..8).map(|n| meta(State::Success, json!(n))).collect();
    for stored in join_all(
        backends
            .iter()
            .zip(&metas)
            .map(|(backend, meta)| backend.store(meta)),
    )
    .await
    {
        stored.unwrap();
    }
    for meta in &metas {
        assert_eq!(
            backends[0].fetch(&meta.task_id).await.unwrap(),
            Some(meta.to_json())
        );
    }
}
