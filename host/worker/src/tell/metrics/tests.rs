#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use petiole_celery::plan::Ended;
use petiole_celery::{Exception, Refusal};
use petiole_permits::Limit;
use petiole_runtime::Usage;

use super::task::MAX_EXCEPTIONS;
use super::*;
use crate::tell::run_report::RunReport;

fn run(limit: Option<Limit>) -> RunReport {
    RunReport {
        usage: Usage {
            wall: Duration::from_millis(20),
            cpu: Duration::from_millis(5),
            peak_memory: 2 << 20,
            host_calls: 3,
            bytes_in: 10,
            ..Usage::default()
        },
        limit,
        result: String::new(),
        long: false,
    }
}

const MEMORY: BudgetUse = BudgetUse {
    total: 1024,
    used: 512,
    peak: 768,
    waiting: 2,
};

fn raised(name: &str) -> Ended {
    Ended::Failure {
        exception: Exception::new("a", name, "b"),
        traceback: None,
    }
}

#[test]
fn a_task_is_counted_under_celery_exporters_names_and_labels() {
    let metrics = Metrics::new("w@\"h\"");
    let task = metrics.task(Some("my_app.add"), "celery");
    task.received();
    drop(task.started());
    task.ended(&Ended::Success, &run(None));
    let exceeded = raised("MemoryLimitExceeded");
    task.ended(&exceeded, &run(Some(Limit::Memory)));
    task.refused(&Refusal::ArgumentsTooLarge { size: 2, limit: 1 });
    task.refused(&Refusal::Expired);
    let failed = "shop.orders".parse().unwrap();
    let text = metrics.text(true, [&failed], MEMORY, 12);
    let host = r#"hostname="w@\"h\"""#;
    let task_labels = r#"name="my_app.add",queue_name="celery""#;
    let labels = format!("{host},{task_labels}");
    for line in [
        format!("celery_task_received_total{{{labels}}} 1"),
        format!("celery_task_started_total{{{labels}}} 1"),
        format!("celery_task_succeeded_total{{{labels}}} 1"),
        format!("celery_task_retried_total{{{labels}}} 0"),
        format!("celery_task_revoked_total{{{labels}}} 1"),
        format!("celery_task_failed_total{{{labels},exception=\"MemoryLimitExceeded\"}} 1"),
        format!("celery_task_failed_total{{{labels},exception=\"ArgumentsTooLarge\"}} 1"),
        format!("celery_task_runtime_count{{{labels}}} 1"),
        format!("celery_task_runtime_bucket{{{host},le=\"0.025\",{task_labels}}} 1"),
        format!("celery_task_runtime_bucket{{{host},le=\"0.01\",{task_labels}}} 0"),
        format!("petiole_task_refused_total{{{labels}}} 2"),
        format!("petiole_task_cpu_seconds_total{{{host},name=\"my_app.add\"}} 0.01"),
        format!(
            "petiole_task_peak_memory_bytes_bucket{{{host},le=\"4194304.0\",name=\"my_app.add\"}} 2"
        ),
        format!("petiole_task_host_calls_total{{{host},name=\"my_app.add\"}} 6"),
        format!(
            "petiole_task_network_bytes_total{{{host},direction=\"in\",name=\"my_app.add\"}} 20"
        ),
        format!("petiole_limit_exceeded_total{{{host},limit=\"memory\",name=\"my_app.add\"}} 1"),
        format!("petiole_limit_exceeded_total{{{host},limit=\"arguments\",name=\"my_app.add\"}} 1"),
        format!("celery_worker_up{{{host}}} 1"),
        format!("celery_worker_tasks_active{{{host}}} 0"),
        format!("petiole_worker_ready{{{host}}} 1"),
        format!("petiole_modules_failed{{{host},module=\"shop.orders\"}} 1"),
        format!("petiole_memory_budget_bytes{{{host}}} 1024"),
        format!("petiole_memory_used_bytes{{{host}}} 512"),
        format!("petiole_memory_waiting{{{host}}} 2"),
        format!("petiole_messages_bytes{{{host}}} 12"),
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    let text = metrics.text(true, [], MEMORY, 0);
    assert!(!text.contains("shop.orders"), "{text}");
}

#[test]
fn nobody_can_make_up_names_without_end() {
    let metrics = Metrics::new("w@h");
    assert_eq!(metrics.task(None, "celery").labels.name, UNKNOWN);
    let task = metrics.task(Some("a.b"), "celery");
    for n in 0..1000 {
        task.ended(&raised(&format!("Made{n}")), &run(None));
    }
    task.ended(&raised("no\nname"), &run(None));
    task.ended(&raised(&"N".repeat(1000)), &run(None));
    let text = metrics.text(false, [], MEMORY, 0);
    let failed = text
        .lines()
        .filter(|line| line.starts_with("celery_task_failed_total"));
    assert_eq!(failed.count(), MAX_EXCEPTIONS + 1);
    for n in 0..MAX_TASKS + 10 {
        metrics.task(Some(&format!("task{n}")), "celery");
    }
    assert_eq!(metrics.tasks.read().unwrap()["celery"].len(), MAX_TASKS);
    assert_eq!(
        metrics.task(Some("one more"), "celery").labels.name,
        UNKNOWN
    );
}
