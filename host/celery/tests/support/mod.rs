//! Policy and runs for the tests of plans.

use std::time::Duration;

use petiole_celery::plan::{Policy, Ran, ResultMode};
use petiole_celery::{Lineage, Outcome, RetrySettings, Routes};
use serde_json::Map;

/// A worker that reports as much of a task as it can.
pub(crate) fn policy(results: ResultMode) -> Policy {
    Policy {
        hostname: "w@h".into(),
        origin: "1@h".into(),
        routes: Routes::new("celery"),
        results,
        result_extended: true,
        quarantine: "kept".into(),
        sent_limit: 256 << 20,
    }
}

/// A run with this outcome, which sent nothing.
pub(crate) fn ran(outcome: Outcome) -> Ran {
    Ran {
        outcome,
        sent: Vec::new(),
        lineage: Lineage {
            descendants: 10,
            depth: 1,
        },
        retry: RetrySettings {
            max_retries: 3,
            most_retries: 9,
            default_retry_delay: Duration::from_secs(180),
        },
        usage: Map::new(),
    }
}
