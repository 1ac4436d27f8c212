use petiole_celery::{Outcome, json};
use petiole_permits::Limit;
use petiole_runtime::{Granted, Run, Usage};
use serde_json::{Map, Value};

use crate::tell::excerpt::excerpt;

/// A run, as logs and metrics have it once its plan says how the task has ended.
#[derive(Debug)]
pub(crate) struct RunReport {
    pub(crate) usage: Usage,
    /// The limit that ended it.
    pub(crate) limit: Option<Limit>,
    /// The beginning of what it returned.
    pub(crate) result: String,
    /// Set where it takes long to make a plan of.
    pub(crate) long: bool,
}

impl RunReport {
    pub(crate) fn of(run: &Run, granted: &Granted) -> Self {
        Self {
            usage: run.usage,
            limit: run.limit,
            result: match &run.outcome {
                // Encoded, a secret would not be recognised: what a task with secrets returns is not shown.
                Outcome::Success(_) if !granted.secrets.is_empty() => {
                    "(not shown: the task has secrets)".into()
                }
                Outcome::Success(result) => excerpt(json::Text(result)),
                Outcome::Failure { .. }
                | Outcome::Retry { .. }
                | Outcome::Reject { .. }
                | Outcome::Ignore => String::new(),
            },
            long: run.long,
        }
    }
}

/// The usage of a run, as results have it under `usage`: the names of the log's fields, seconds and bytes.
pub(crate) fn usage(usage: &Usage) -> Map<String, Value> {
    let Usage {
        wall,
        cpu,
        peak_memory,
        host_calls,
        log,
        bytes_in,
        bytes_out,
        requests,
        disk,
        children,
    } = *usage;
    let fields: [(&str, Value); 10] = [
        ("seconds", wall.as_secs_f64().into()),
        ("cpu", cpu.as_secs_f64().into()),
        ("peak_memory", peak_memory.into()),
        ("host_calls", host_calls.into()),
        ("log", log.into()),
        ("bytes_in", bytes_in.into()),
        ("bytes_out", bytes_out.into()),
        ("requests", requests.into()),
        ("disk", disk.into()),
        ("children", children.into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
