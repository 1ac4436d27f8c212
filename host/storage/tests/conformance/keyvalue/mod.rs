//! One suite that every key-value storage must pass, and cases of Redis's and SQLite's own.

mod redis_store;
mod sqlite_store;
mod suite;

use std::sync::Arc;

use petiole_permits::KeyValue;
use petiole_storage::keyvalue::ConnectError;

use crate::Subject;
use crate::redis_server::RedisServer;

conforms!(redis sqlite: [
    what_is_set_is_there
    what_is_deleted_is_gone
    any_text_is_a_key_and_any_bytes_a_value
    batches_keep_their_order
    empty_batches_do_nothing
    more_than_a_batch_is_not_read
    a_list_has_every_key_of_its_prefix_and_no_other
    a_list_comes_in_pages
    a_forged_cursor_reaches_no_other_prefix
    numbers_are_counted
    what_is_no_number_is_not_counted
    all_who_count_at_once_count
    a_swap_needs_the_expected_value
    of_two_who_swap_at_once_one_is_told
    others_see_what_is_set
    opened_by_many_at_once
]);

async fn redis() -> Subject {
    let server = RedisServer::start().await;
    Subject {
        url: server.url(),
        _keep: Box::new(server),
    }
}

async fn sqlite() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    Subject {
        url: format!("sqlite://{}", folder.path().join("keyvalue.db").display()),
        _keep: Box::new(folder),
    }
}

async fn connect(url: &str) -> Result<Arc<dyn KeyValue>, ConnectError> {
    petiole_storage::keyvalue::connect(&url.into()).await
}

#[tokio::test]
async fn a_wrong_url_names_what_there_is_and_no_password() {
    let error = connect("mongodb://me:secret@host").await.unwrap_err();
    let text = error.to_string();
    assert!(!text.contains("secret"), "{text}");
    for part in ["mongodb", "redis://", "rediss://", "sqlite://PATH"] {
        assert!(text.contains(part), "{text}");
    }
}
