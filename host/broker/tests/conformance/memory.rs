//! Unsettled deliveries stay within a number of bytes, and one message for each consumer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use petiole_broker::{Broker, Deliveries, Delivery, Terms};
use petiole_celery::Publication;
use tokio::time::{Instant, timeout};

use crate::amqp::proxied;
use crate::{DEADLINE, Place, body, length_becomes, next, rabbitmq, text, unique};

const MEMORY: usize = 1024 * 1024;
const LARGE: usize = 300 * 1024;
/// Bytes that a message may have beside its body.
const PROPERTIES: usize = 1024;
/// Time that a delivery is worked on, at least.
const WORK: Duration = Duration::from_millis(20);

async fn places() -> [Place; 3] {
    let (classic, quorum) = (Place::amqp().await, Place::quorum().await);
    [classic, quorum, Place::embedded().await]
}

/// A message of `size` bytes, which begins with its number.
fn numbered(queue: &str, number: usize, size: usize) -> Publication {
    let number = number.to_string();
    let rest = " ".repeat(size - number.len());
    text(queue, &(number + &rest))
}

fn number(delivery: &Delivery) -> usize {
    body(delivery).trim_end().parse().unwrap()
}

async fn publish(broker: &Arc<dyn Broker>, queue: &str, count: usize, size: usize) {
    let all = (0..count).map(|number| broker.publish(numbered(queue, number, size)));
    for published in join_all(all).await {
        published.unwrap();
    }
}

/// Messages that a reader has seen.
#[derive(Default)]
struct Seen {
    /// The bytes of each that was settled.
    settled: BTreeMap<usize, usize>,
    /// The most deliveries of one message that were lost, as far as the queue counts them.
    lost: u64,
    /// The most that was in hand at once, in messages.
    most: usize,
}

/// Takes what comes, and settles the oldest whenever nothing has come for a while; until `done`, or where that is
/// never, until nothing comes for long.
async fn read(
    broker: &Arc<dyn Broker>,
    mut deliveries: Deliveries,
    size: usize,
    done: impl Fn() -> bool,
    settled: impl Fn(),
) -> Seen {
    let mut seen = Seen::default();
    let mut in_hand = VecDeque::new();
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < DEADLINE, "{} in hand", in_hand.len());
        if let Ok(delivery) = timeout(WORK, deliveries.next()).await {
            let delivery = delivery.expect("the deliveries ended");
            seen.lost = seen.lost.max(delivery.message.deliveries_lost());
            in_hand.push_back(delivery);
            seen.most = seen.most.max(in_hand.len());
            let held: usize = in_hand
                .iter()
                .map(|delivery| delivery.message.body.len())
                .sum();
            let most = MEMORY.max(size + PROPERTIES) + size + PROPERTIES;
            assert!(held <= most, "{held} bytes in hand");
            let held = usize::try_from(broker.held()).unwrap();
            assert!(held <= most + size + PROPERTIES, "{held} bytes");
            continue;
        }
        if let Some(delivery) = in_hand.pop_front() {
            let (number, bytes) = (number(&delivery), delivery.message.body.len());
            delivery.receipt.ack().await.unwrap();
            assert_eq!(seen.settled.insert(number, bytes), None, "it came again");
            settled();
        }
    }
    seen
}

/// All of them, read by one.
async fn read_all(
    broker: &Arc<dyn Broker>,
    deliveries: Deliveries,
    count: usize,
    size: usize,
) -> Seen {
    let left = std::cell::Cell::new(count);
    let seen = read(
        broker,
        deliveries,
        size,
        || left.get() == 0,
        || left.set(left.get() - 1),
    )
    .await;
    assert_eq!(seen.settled.len(), count);
    assert!(
        seen.settled.values().all(|bytes| *bytes == size),
        "it is whole"
    );
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_stays_within_its_memory() {
    for place in places().await {
        let broker = place.broker_with(MEMORY).await;
        publish(&broker, &place.queue, 40, LARGE).await;
        let deliveries = place.consume(&broker, 40).await;
        let started = Instant::now();
        let seen = read_all(&broker, deliveries, 40, LARGE).await;
        println!(
            "{}: {:?}, {} at once, lost {}",
            place.url,
            started.elapsed(),
            seen.most,
            seen.lost
        );
        assert!(seen.most >= 2, "there is room for as many");
        assert!(seen.lost <= 2, "lost {} times", seen.lost);
        length_becomes(&broker, &place.queue, 0).await;
        assert_eq!(broker.held(), 0);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_all_of_the_memory_goes_alone() {
    for place in places().await {
        let broker = place.broker_with(MEMORY).await;
        publish(&broker, &place.queue, 4, 3 * MEMORY).await;
        let deliveries = place.consume(&broker, 40).await;
        let seen = read_all(&broker, deliveries, 4, 3 * MEMORY).await;
        assert_eq!(seen.most, 1);
        assert!(seen.lost <= 3, "lost {} times", seen.lost);
        assert_eq!(broker.held(), 0);
        broker.close().await;
    }
}

/// Several workers, each allowed few: a message must not go round among them, since it is dropped after 20 times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_do_not_go_round_among_workers_that_are_full() {
    const WORKERS: usize = 6;
    const COUNT: usize = 90;
    for place in places().await {
        let broker = place.broker_with(MEMORY).await;
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(
                petiole_broker::connect(&place.url.as_str().into(), MEMORY)
                    .await
                    .unwrap(),
            );
        }
        let mut deliveries = Vec::new();
        for worker in &workers {
            deliveries.push(place.consume(worker, 40).await);
        }
        publish(&broker, &place.queue, COUNT, LARGE).await;
        let left = std::cell::Cell::new(COUNT);
        let (done, settled) = (|| left.get() == 0, || left.set(left.get() - 1));
        let reading = workers.iter().zip(deliveries);
        let reading =
            reading.map(|(worker, deliveries)| read(worker, deliveries, LARGE, done, settled));
        let seen = join_all(reading).await;
        let all: Vec<(&usize, &usize)> = seen.iter().flat_map(|seen| &seen.settled).collect();
        let lost: Vec<u64> = seen.iter().map(|seen| seen.lost).collect();
        println!("{}: lost {lost:?}", place.url);
        assert_eq!(all.len(), COUNT, "each came once");
        assert!(all.iter().all(|(_, bytes)| **bytes == LARGE));
        assert!(lost.iter().all(|lost| *lost <= 5), "{lost:?}");
        for worker in workers {
            assert_eq!(worker.held(), 0);
            worker.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_of_one_queue_keep_no_small_ones_of_another_waiting() {
    for place in places().await {
        let broker = place.broker_with(MEMORY).await;
        let small = unique();
        broker.declare(&small).await.unwrap();
        publish(&broker, &place.queue, 20, LARGE).await;
        let mut large = place.consume(&broker, 20).await;
        let mut held = Vec::new();
        while held.len() < 3 {
            held.push(next(&mut large).await);
        }
        publish(&broker, &small, 300, 100).await;
        let queues = std::slice::from_ref(&small);
        let deliveries = broker.consume(queues, Terms::prefetch(100)).await;
        let mut deliveries = deliveries.unwrap();
        let mut numbers = BTreeSet::new();
        while numbers.len() < 300 {
            let mut some = Vec::new();
            for _ in 0..50 {
                some.push(next(&mut deliveries).await);
            }
            for delivery in some {
                assert!(numbers.insert(number(&delivery)), "it came again");
                delivery.receipt.ack().await.unwrap();
            }
        }
        broker.close().await;
    }
}

/// Deliveries in hand, on their way, or left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_goes_back_when_nobody_reads_any_more() {
    for place in places().await {
        let broker = place.broker_with(MEMORY).await;
        publish(&broker, &place.queue, 20, LARGE).await;
        let mut deliveries = place.consume(&broker, 20).await;
        let held = next(&mut deliveries).await;
        drop(deliveries);
        length_becomes(&broker, &place.queue, 19).await;
        held.receipt.ack().await.unwrap();
        // Whoever comes then has all of the room.
        let deliveries = place.consume(&broker, 20).await;
        let left = std::cell::Cell::new(19);
        read(
            &broker,
            deliveries,
            LARGE,
            || left.get() == 0,
            || left.set(left.get() - 1),
        )
        .await;
        length_becomes(&broker, &place.queue, 0).await;
        assert_eq!(broker.held(), 0);
        broker.close().await;
    }
}

/// Whatever was on its way when the connection was cut: what is held is what is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cut_connection_had_delivered_is_given_back() {
    let (proxy, url) = proxied().await;
    for quorum in [false, true] {
        let queue = unique();
        if quorum {
            rabbitmq::declare_quorum(&queue).await;
        }
        let broker = petiole_broker::connect(&url.as_str().into(), MEMORY)
            .await
            .unwrap();
        broker.declare(&queue).await.unwrap();
        publish(&broker, &queue, 30, LARGE).await;
        let queues = std::slice::from_ref(&queue);
        let deliveries = broker.consume(queues, Terms::prefetch(30)).await;
        let mut deliveries = deliveries.unwrap();
        let mut settled = BTreeSet::new();
        let mut delivered = 0;
        while settled.len() < 30 {
            let delivery = next(&mut deliveries).await;
            delivered += 1;
            assert!(delivered < 300, "deliveries without end");
            if delivered % 7 == 0 {
                proxy.cut();
            }
            let held = usize::try_from(broker.held()).unwrap();
            assert!(held <= MEMORY + LARGE + PROPERTIES, "{held} bytes");
            let number = number(&delivery);
            if delivery.receipt.ack().await.is_ok() {
                settled.insert(number);
            }
        }
        // A last ack may have been lost on its way: then its message comes again.
        let again = async {
            while broker.length(&queue).await != Ok(Some(0)) || broker.held() > 0 {
                if let Ok(Some(delivery)) = timeout(WORK, deliveries.next()).await {
                    let _ = delivery.receipt.ack().await;
                }
            }
        };
        timeout(DEADLINE, again).await.unwrap();
        broker.close().await;
    }
}

/// It asks for fewer messages by another consumer, without a moment in which the queue has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_goes_with_its_last_consumer_stays() {
    let place = Place::amqp().await;
    let connection = rabbitmq::raw(&place.url).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions {
        auto_delete: true,
        ..QueueDeclareOptions::durable()
    };
    let queue = place.queue.as_str().into();
    channel
        .queue_declare(queue, options, FieldTable::default())
        .await
        .unwrap();
    let broker = petiole_broker::connect(&place.url.as_str().into(), MEMORY)
        .await
        .unwrap();
    publish(&broker, &place.queue, 20, LARGE).await;
    let deliveries = place.consume(&broker, 20).await;
    read_all(&broker, deliveries, 20, LARGE).await;
    broker.close().await;
}
