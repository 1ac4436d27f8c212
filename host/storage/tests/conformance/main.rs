//! Cases that every result backend and every key-value storage must pass, and those of Redis or SQLite alone.
//!
//! A private `redis-server` runs for each test; `PETIOLE_TEST_REDIS_URL` names another one for the suite of result
//! backends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

/// Makes each case of a suite a test of each of these backends.
macro_rules! conforms {
    (@ $backend:ident [$($case:ident)*]) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let subject = super::$backend().await;
                    super::suite::$case(&subject).await;
                }
            )*
        }
    };
    ($($backend:ident)*: $cases:tt) => {
        $(conforms!(@ $backend $cases);)*
    };
}

mod keyvalue;
mod redis_server;
mod results;

use std::any::Any;
use std::time::Duration;

/// Time for a condition to become true.
const PATIENCE: Duration = Duration::from_secs(20);

/// A backend or a storage under test.
struct Subject {
    url: String,
    _keep: Box<dyn Any + Send + Sync>,
}
