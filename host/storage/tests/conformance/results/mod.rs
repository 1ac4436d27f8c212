//! One suite that every result backend must pass, and cases of Redis's own.

mod redis_backend;
mod redis_tls;
mod sentinel;
mod suite;

use std::time::Duration;

use petiole_storage::results::{RESULT_EXPIRES, ResultError, Results};
use suite::connect;

use crate::Subject;
use crate::redis_server::RedisServer;

conforms!(redis sqlite: [
    stored_is_fetched
    unknown_is_none
    success_stays
    later_states_replace_earlier_ones
    large_result
    hundred_at_once
    the_first_commit_of_a_run_stays
    of_many_commits_of_a_run_one_is_the_first
    a_commit_outlives_its_results
    a_run_that_has_ended_says_no_more
    expires
    readers_on_other_connections_see_results
    wait_ends_with_a_final_state
    wait_ends_with_its_deadline
    opened_by_many_at_once
]);

async fn redis() -> Subject {
    match std::env::var("PETIOLE_TEST_REDIS_URL") {
        Ok(url) => Subject {
            url,
            _keep: Box::new(()),
        },
        Err(_) => {
            let server = RedisServer::start().await;
            Subject {
                url: server.url(),
                _keep: Box::new(server),
            }
        }
    }
}

async fn sqlite() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    Subject {
        url: format!("sqlite://{}", folder.path().join("results.db").display()),
        _keep: Box::new(folder),
    }
}

#[tokio::test]
async fn reply_and_disabled_are_no_backends() {
    use petiole_celery::plan::ResultMode;
    for (url, mode) in [
        ("rpc://", ResultMode::Reply),
        ("disabled://", ResultMode::Disabled),
    ] {
        let results = Results::connect(&url.into(), RESULT_EXPIRES).await.unwrap();
        assert_eq!(results.mode(), mode);
        assert!(results.backend().is_none());
    }
}

#[tokio::test]
async fn a_wrong_url_names_what_there_is_and_no_password() {
    let error = Results::connect(&"mongodb://me:secret@host".into(), RESULT_EXPIRES)
        .await
        .unwrap_err();
    assert!(error.is_configuration());
    let text = error.to_string();
    assert!(!text.contains("secret"), "{text}");
    for part in [
        "mongodb",
        "redis://",
        "rediss://",
        "sqlite://PATH",
        "rpc://",
        "disabled://",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_sqlite_file_that_cannot_be_opened_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}",
        folder.path().join("no/such/folder/results.db").display()
    );
    let error = Results::connect(&url.into(), RESULT_EXPIRES)
        .await
        .unwrap_err();
    assert!(matches!(error, ResultError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn results_in_sqlite_outlive_the_process() {
    let subject = sqlite().await;
    let meta = suite::meta(petiole_celery::State::Success, serde_json::json!(1));
    connect(&subject.url, Duration::ZERO)
        .await
        .store(&meta)
        .await
        .unwrap();
    let fetched = connect(&subject.url, Duration::ZERO)
        .await
        .fetch(&meta.task_id)
        .await
        .unwrap();
    assert_eq!(fetched, Some(meta.to_json()));
}
