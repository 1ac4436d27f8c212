//! The guard at work: the crate's broker, lapin in it, and what a broker at the other end of the socket sees.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, ConnectionProperties};
use petiole_celery::{Destination, Message, Publication};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tokio::time::timeout;

use super::super::Channels;
use super::fake::{Fake, Part, delivery};
use super::inbound::hostile;
use super::{entry, headers, nested, text};
use crate::PublishError;

const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of memory that hostile headers of some MB in all may take.
const MEMORY: u64 = 192 << 20;

/// The most memory that this process ever had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// All of them arrive, in their order, on one connection, and are acked.
async fn arrive(deliveries: Vec<u8>, count: u64) {
    let before = peak();
    let fake = Fake::start(deliveries, 10).await;
    let broker = crate::connect(&fake.url().into(), crate::MESSAGES)
        .await
        .unwrap();
    let queue = "q".to_owned();
    let mut received = broker
        .consume(std::slice::from_ref(&queue), crate::Terms::prefetch(100))
        .await
        .unwrap();
    for number in 1..=count {
        let delivery = timeout(DEADLINE, received.next()).await.unwrap().unwrap();
        assert_eq!(delivery.message.body, number.to_string().into_bytes());
        delivery.receipt.ack().await.unwrap();
    }
    fake.until("not all is acked", |seen| seen.acked == count)
        .await;
    let seen = fake.seen();
    assert_eq!(seen.connections, 2, "one to consume, one to publish");
    assert_eq!(seen.foreign, Vec::<String>::new());
    assert!(broker.connected());
    broker.close().await;
    let grown = peak() - before;
    assert!(grown < MEMORY, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_arrive_once_each_on_the_same_connection() {
    const COUNT: u64 = 3000;
    let mut runner = TestRunner::deterministic();
    let strategy = hostile();
    let mut bytes = Vec::new();
    for number in 1..=COUNT {
        let properties = strategy.new_tree(&mut runner).unwrap().current();
        let key = if number % 7 == 0 { &b"k\xff"[..] } else { b"q" };
        bytes.extend(delivery(number, key, &properties));
    }
    arrive(bytes, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_deep_headers_end_neither_process_nor_connection() {
    let mut bytes = Vec::new();
    let all = [
        headers(&[entry(b"d", &nested(1_000))]),
        headers(&[entry(b"d", &nested(26_000))]),
        headers(&[entry(b"d", &nested(200_000))]),
        headers(&[entry(b"x", &text(&vec![b'x'; 131_073]))]),
        headers(&[entry(b"x", &text(&vec![b'x'; 16 << 20]))]),
        headers(&[]),
    ];
    for (number, properties) in (1..).zip(&all) {
        bytes.extend(delivery(number, b"q", properties));
    }
    arrive(bytes, 6).await;
}

/// RabbitMQ does so when a message of a quorum queue was held for too long, and gives all of the consumer's to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_consumer_had_that_the_broker_ended_while_it_was_replaced_is_not_settled() {
    let deliveries = [1, 2].map(|number| delivery(number, b"q", &headers(&[])));
    let fake = Fake::with(Part {
        deliveries: deliveries.concat(),
        heartbeat: 10,
        ends_consumers: true,
    })
    .await;
    // There is room for one message, so the second is left out, and one is asked for.
    let broker = crate::connect(&fake.url().into(), 0).await.unwrap();
    let queue = "q".to_owned();
    let terms = crate::Terms::prefetch(100);
    let mut received = broker
        .consume(std::slice::from_ref(&queue), terms)
        .await
        .unwrap();
    let first = timeout(DEADLINE, received.next()).await.unwrap().unwrap();
    fake.until("another one is asked for", |seen| seen.consumers == 2)
        .await;
    timeout(DEADLINE, first.receipt.gone()).await.unwrap();
    assert!(first.receipt.ack().await.is_err());
    fake.until("it consumes again", |seen| seen.consumers > 2)
        .await;
    assert_eq!(fake.seen().foreign, Vec::<String>::new());
    broker.close().await;
}

fn publication(body: String, headers: usize) -> Publication {
    let mut message = Message {
        body: body.into(),
        ..Message::default()
    };
    message
        .headers
        .insert("padding".into(), "x".repeat(headers).into());
    Publication {
        destination: Destination::queue("q"),
        message,
        mandatory: true,
        not_before: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_of_ours_is_over_the_limit_and_neighbours_are_confirmed_once() {
    let fake = Fake::start(Vec::new(), 10).await;
    let broker = crate::connect(&fake.url().into(), crate::MESSAGES)
        .await
        .unwrap();
    let mut neighbours = Vec::new();
    for (round, large) in [131_072, 140_000, 4 << 20, (4 << 20) + 1, 40_000_000]
        .into_iter()
        .enumerate()
    {
        for index in 0..50 {
            neighbours.push(format!("{round}.{index}"));
        }
        let around =
            (0..50).map(|index| broker.publish(publication(format!("{round}.{index}"), 90_000)));
        let around = futures::future::join_all(around);
        let (around, refused) =
            tokio::join!(around, broker.publish(publication("large".into(), large)));
        for published in around {
            published.unwrap();
        }
        let Err(PublishError::Invalid { reason }) = refused else {
            panic!("{large}: {refused:?}");
        };
        assert!(reason.contains("over the limit of 118776"), "{reason}");
    }
    let seen = fake.seen();
    let mut published: Vec<String> = seen
        .published
        .into_iter()
        .map(|body| String::from_utf8(body).unwrap())
        .collect();
    published.sort();
    neighbours.sort();
    assert_eq!(published, neighbours);
    assert_eq!(seen.connections, 2);
    assert_eq!(seen.foreign, Vec::<String>::new());
    assert!(seen.largest <= 131_072);
    broker.close().await;
}

/// Hands lapin such a header, with none of the crate's own checks before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lapin_can_not_frame_does_not_leave() {
    for size in [140_000, 4 << 20, 40_000_000] {
        let fake = Fake::start(Vec::new(), 10).await;
        let uri = fake.url().parse().unwrap();
        let connection = super::super::connect(
            uri,
            ConnectionProperties::default(),
            None,
            Channels::default(),
        );
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let send = |size: usize| {
            let mut table = FieldTable::default();
            // Frames in frames: a queue.declare, over and over.
            let declare = [
                1, 0, 1, 0, 0, 0, 13, 0, 50, 0, 10, 0, 0, 1, b'q', 0, 0, 0, 0, 0, 0xce,
            ];
            let bytes: Vec<u8> = declare.iter().copied().cycle().take(size).collect();
            table.insert("h".into(), AMQPValue::LongString(LongString::from(bytes)));
            let properties = BasicProperties::default().with_headers(table);
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), "q".into(), options, b"x", properties)
        };
        for _ in 0..46 {
            send(90_000).await.unwrap().await.unwrap();
        }
        let sent = timeout(DEADLINE, async { send(size).await?.await })
            .await
            .unwrap();
        let error = sent.unwrap_err().to_string();
        assert!(
            error.contains("petiole's guard before the socket"),
            "{size}: {error}"
        );
        fake.until("the connection stands", |_| {
            !connection.status().connected()
        })
        .await;
        let seen = fake.seen();
        assert_eq!(seen.foreign, Vec::<String>::new(), "{size}");
        assert_eq!(seen.published.len(), 46);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_pass_both_ways() {
    let fake = Fake::start(Vec::new(), 1).await;
    let broker = crate::connect(&fake.url().into(), crate::MESSAGES)
        .await
        .unwrap();
    fake.until("no heartbeats come", |seen| seen.heartbeats >= 8)
        .await;
    assert!(broker.connected());
    assert_eq!(fake.seen().connections, 2);
    broker.close().await;
}
