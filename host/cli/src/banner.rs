//! The banner that a worker prints when it starts, as Celery's does.

use std::fmt::Write;

use petiole_api::documents::TaskDocument;
use petiole_worker::RegisteredTask;

use crate::config::Config;
use crate::logging::escaped;

/// The banner's text.
pub(crate) fn banner<'a>(
    config: &Config,
    http: Option<&str>,
    tasks: impl Iterator<Item = &'a RegisteredTask>,
) -> String {
    let rows = [
        ("broker", config.broker.url.to_string()),
        ("results", config.results.url.to_string()),
        ("store", config.modules.store.to_string()),
        (
            "concurrency",
            format!("{} tasks at once", config.worker.concurrency),
        ),
        (
            "memory",
            format!("{} for all of them together", config.worker.memory_budget()),
        ),
        ("http", http.unwrap_or("off (--http ADDR)").to_owned()),
    ];
    let mut text = format!(
        "\n {} petiole v{}\n\n",
        config.worker.hostname,
        env!("CARGO_PKG_VERSION")
    );
    // Writing to a string can't fail.
    for (name, value) in rows {
        let _ = writeln!(text, " .> {:<13}{value}", format!("{name}:"));
    }
    text.push_str("\n [queues]\n");
    for queue in &config.broker.queues {
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
