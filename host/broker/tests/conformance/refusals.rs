//! RabbitMQ's answers to what it does not do, and to what it does later. Whatever is refused, its neighbours
//! come exactly once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions};
use lapin::types::FieldTable;
use petiole_broker::{Broker, PublishError};
use petiole_celery::Publication;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::rabbitmq::{self, start_node_with};
use crate::{DEADLINE, Place, length_becomes, next, text, unique};

const NEIGHBOURS: u64 = 300;

/// Publishes neighbours and refused messages all at once; returns the answers to the refused ones.
async fn among_neighbours(
    broker: &Arc<dyn Broker>,
    queue: &str,
    refused: Vec<Publication>,
) -> Vec<Result<(), PublishError>> {
    let neighbours = join_all((0..NEIGHBOURS).map(|_| broker.publish(text(queue, "neighbour"))));
    let refused = join_all(refused.into_iter().map(|one| broker.publish(one)));
    let (neighbours, refused) = timeout(DEADLINE, async { tokio::join!(neighbours, refused) })
        .await
        .unwrap();
    for neighbour in neighbours {
        neighbour.unwrap();
    }
    length_becomes(broker, queue, NEIGHBOURS).await;
    refused
}

#[track_caller]
fn assert_refused(answer: &Result<(), PublishError>, want: u16) {
    match answer {
        Err(error @ PublishError::Refused { answer, .. }) => {
            assert_eq!(answer.code, want, "{error}");
            assert!(!answer.text.is_empty());
            assert!(error.is_final());
        }
        other => panic!("not refused with {want}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_exchange_costs_no_neighbour_a_duplicate() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut refused = text("any", "refused");
    refused.destination.exchange = "amq.rabbitmq.trace".to_owned();
    for answer in among_neighbours(&broker, &place.queue, vec![refused; 20]).await {
        assert_refused(&answer, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reply_to_costs_no_neighbour_a_duplicate() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut refused = text(&place.queue, "refused");
    refused.message.properties.reply_to = Some("amq.rabbitmq.reply-to".to_owned());
    for answer in among_neighbours(&broker, &place.queue, vec![refused; 20]).await {
        assert_refused(&answer, 406);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_was_deleted_is_not_taken_for_there() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let channel = rabbitmq::raw(&place.url)
        .await
        .create_channel()
        .await
        .unwrap();
    let (exchange, other) = (unique(), unique());
    broker.declare(&other).await.unwrap();
    let declare = async || {
        channel
            .exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Direct,
                ExchangeDeclareOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        channel
            .queue_bind(
                other.as_str().into(),
                exchange.as_str().into(),
                "key".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    };
    declare().await;
    let mut message = text("key", "x");
    message.destination.exchange.clone_from(&exchange);
    broker.publish(message.clone()).await.unwrap();
    channel
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    for answer in among_neighbours(&broker, &place.queue, vec![message.clone(); 20]).await {
        assert_refused(&answer, 404);
    }
    declare().await;
    broker.publish(message).await.unwrap();
    length_becomes(&broker, &other, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queues_own_exchange_is_made_again() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 10).await;
    let channel = rabbitmq::raw(&place.url)
        .await
        .create_channel()
        .await
        .unwrap();
    for _ in 0..2 {
        channel
            .exchange_delete(
                place.queue.as_str().into(),
                ExchangeDeleteOptions::default(),
            )
            .await
            .unwrap();
        for _ in 0..2 {
            broker.publish(text(&place.queue, "x")).await.unwrap();
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.source.exchange, place.queue);
            delivery.receipt.ack().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_own_exchange_a_queue_is_reached_by_the_default_one() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 10).await;
    let channel = rabbitmq::raw(&place.url)
        .await
        .create_channel()
        .await
        .unwrap();
    let name = || place.queue.as_str().into();
    channel
        .exchange_delete(name(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    // Another's, which leads nowhere.
    channel
        .exchange_declare(
            name(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    for _ in 0..2 {
        broker.publish(text(&place.queue, "x")).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.source.exchange, "");
        delivery.receipt.ack().await.unwrap();
    }
    channel
        .exchange_delete(name(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_cannot_be_queues_for_us_are_final() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let error = broker.declare("amq.mine").await.unwrap_err();
    assert!(error.is_final(), "{error}");
    let starred = format!("{}.*", unique());
    broker.declare(&starred).await.unwrap();
    let late = Publication {
        not_before: Some(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60)),
        ..text(&starred, "late")
    };
    for answer in among_neighbours(&broker, &place.queue, vec![late]).await {
        let error = answer.unwrap_err();
        assert!(error.is_final(), "{error}");
    }
}

/// Configure, write and read on the right queues and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_permissions_are_enough_and_hold() {
    let node = rabbitmq::own().await;
    let user = unique();
    node.ctl(&["add_user", &user, "secret"]).await;
    let right = "^(right|celery_delayed_.*)$";
    node.ctl(&["set_permissions", "-p", "/", &user, right, right, right])
        .await;
    let mut url = Url::parse(&node.url).unwrap();
    url.set_username(&user).unwrap();
    url.set_password(Some("secret")).unwrap();
    let guest = crate::connect(&node.url).await.unwrap();
    guest.declare("wrong").await.unwrap();

    let broker = crate::connect(url.as_str()).await.unwrap();
    broker.declare("right").await.unwrap();
    for answer in among_neighbours(&broker, "right", vec![text("wrong", "x"); 20]).await {
        assert_refused(&answer, 403);
    }
    assert_eq!(guest.length("wrong").await, Ok(Some(0)));
    // The default exchange is forbidden.
    let channel = rabbitmq::raw(&node.url)
        .await
        .create_channel()
        .await
        .unwrap();
    channel
        .exchange_delete("right".into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    broker.publish(text("right", "x")).await.unwrap();
    broker
        .publish(Publication {
            not_before: Some(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)),
            ..text("right", "late")
        })
        .await
        .unwrap();
    length_becomes(&broker, "right", NEIGHBOURS + 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_broker_takes_costs_no_neighbour_a_duplicate() {
    let small = || start_node_with(&[], |_| "max_message_size = 1000\n".to_owned());
    let node = tokio::task::spawn_blocking(small).await.unwrap();
    let broker = crate::connect(&node.url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    let large = text(&queue, &"x".repeat(1001));
    for answer in among_neighbours(&broker, &queue, vec![large; 20]).await {
        assert_refused(&answer, 406);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_waited_out_and_nothing_comes_twice() {
    const COUNT: u64 = 5;
    /// Longer than a publication may wait to be written, and longer than for an answer.
    const ALARM: Duration = Duration::from_secs(65);
    let node = rabbitmq::own().await;
    let broker = crate::connect(&node.url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    broker.publish(text(&queue, "before")).await.unwrap();
    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"])
        .await;
    let publishing = join_all((0..COUNT).map(|_| {
        let (broker, queue) = (Arc::clone(&broker), queue.clone());
        tokio::spawn(async move { broker.publish(text(&queue, "x")).await })
    }));
    let mut publishing = std::pin::pin!(publishing);
    let early = timeout(ALARM, publishing.as_mut()).await;
    assert!(early.is_err(), "answered during the alarm: {early:?}");
    assert!(!broker.connected(), "ready while the broker takes nothing");
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    for published in timeout(DEADLINE, publishing).await.unwrap() {
        published.unwrap().unwrap();
    }
    let started = Instant::now();
    while !broker.connected() {
        assert!(started.elapsed() < DEADLINE, "not ready after the alarm");
        sleep(Duration::from_millis(20)).await;
    }
    length_becomes(&broker, &queue, COUNT + 1).await;
}
