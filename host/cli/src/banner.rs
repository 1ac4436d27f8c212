//! What a worker says when it starts, as Celery's does.

use std::fmt::Write;

use petiole_api::documents::TaskDocument;
use petiole_worker::RegisteredTask;

use crate::config::Resolved;
use crate::logging::escaped;

/// The banner's text.
pub(crate) fn banner<'a>(
    config: &Resolved,
    http: Option<&str>,
    tasks: impl Iterator<Item = &'a RegisteredTask>,
) -> String {
    let rows = [
        ("broker", config.broker.value.to_string()),
        ("results", config.results.value.to_string()),
        ("store", config.store.value.to_string()),
        (
            "concurrency",
            format!("{} tasks at once", config.concurrency.value),
        ),
        (
            "memory",
            format!("{} for all of them together", config.memory_budget.value),
        ),
        ("http", http.unwrap_or("off (--http ADDR)").to_owned()),
    ];
    let mut text = format!(
        "\n {} petiole v{}\n\n",
        config.hostname.value,
        env!("CARGO_PKG_VERSION")
    );
    // Writing to a string can't fail.
    for (name, value) in rows {
        let _ = writeln!(text, " .> {:<13}{value}", format!("{name}:"));
    }
    text.push_str("\n [queues]\n");
    for queue in &config.queues.value {
        let _ = writeln!(text, "  .> {queue}");
    }
    text.push_str("\n [tasks]\n");
    let tasks: Vec<_> = tasks
        .map(|task| TaskDocument::from(task).signature)
        .collect();
    for task in &tasks {
        let _ = writeln!(text, "  . {}", escaped(task));
    }
    if tasks.is_empty() {
        text.push_str("  none yet: petiole push FILE.wasm --name my_app.tasks\n");
    }
    text
}
