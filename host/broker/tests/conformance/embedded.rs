//! Tests of what only the embedded broker can do.

use std::process::{Command, Stdio};

use petiole_broker::{BrokerError, Terms};

use crate::{Place, body, length_becomes, next, text};

/// The URL and queue for the child process of a test.
const CHILD: &str = "PETIOLE_TEST_CHILD";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn higher_priorities_come_first() {
    let place = Place::embedded().await;
    let broker = place.broker().await;
    for (name, priority) in [
        ("none", None),
        ("five", Some(5)),
        ("nine", Some(9)),
        ("nine too", Some(9)),
    ] {
        let mut publication = text(&place.queue, name);
        publication.message.properties.priority = priority;
        broker.publish(publication).await.unwrap();
    }
    let mut deliveries = place.consume(&broker, 4).await;
    for want in ["nine", "nine too", "five", "none"] {
        assert_eq!(body(&next(&mut deliveries).await), want);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_is_opened_by_many_at_once() {
    for _ in 0..10 {
        let place = Place::embedded().await;
        let all = (0..8).map(|_| place.broker());
        for broker in futures::future::join_all(all).await {
            broker.publish(text(&place.queue, "one")).await.unwrap();
        }
        length_becomes(&place.connect().await, &place.queue, 8).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    let place = Place::embedded().await;
    let broker = place.broker().await;
    for number in 0..3 {
        broker
            .publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "embedded::consumes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, format!("{}\n{}", place.url, place.queue))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The child has all of them, unsettled.
    length_becomes(&broker, &place.queue, 0).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let mut deliveries = place.consume(&broker, 3).await;
    for number in 0..3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(
            (body(&delivery), delivery.redelivered),
            (number.to_string(), true)
        );
        delivery.receipt.ack().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "the child process of another test"]
async fn consumes_until_it_is_killed() {
    let Ok(child) = std::env::var(CHILD) else {
        return;
    };
    let (url, queue) = child.split_once('\n').unwrap();
    let broker = crate::connect(url).await.unwrap();
    let mut deliveries = broker
        .consume(&[queue.to_owned()], Terms::prefetch(10))
        .await
        .unwrap();
    let mut held = Vec::new();
    while let Some(delivery) = deliveries.next().await {
        held.push(delivery);
    }
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "not a database, and longer than the header of one, which has 100 bytes".repeat(10),
    )
    .unwrap();
    for path in [
        text,
        folder.path().join("no/such/folder/broker.db"),
        folder.path().to_owned(),
    ] {
        let error = crate::connect(&format!("sqlite://{}", path.display()))
            .await
            .err()
            .unwrap();
        assert!(matches!(error, BrokerError::Database { .. }), "{error}");
    }
}
