//! What only RabbitMQ can do, or do to us.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use petiole_broker::{BrokerError, IO_STACK, PublishError};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::proxy::Proxy;
use crate::{DEADLINE, Place, body, length_becomes, next, rabbitmq, text, unique};

/// A proxy before the node, and the node's URL by it.
async fn proxied() -> (Proxy, String) {
    let mut url = Url::parse(rabbitmq::url().await).unwrap();
    let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
    let proxy = Proxy::start(target).await;
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    (proxy, url.to_string())
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn channel() -> (lapin::Connection, Channel) {
    let connection = rabbitmq::raw().await;
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_made_anew_and_nothing_is_lost() {
    const COUNT: usize = 2000;
    let (proxy, url) = proxied().await;
    let broker = petiole_broker::connect(&url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    let mut deliveries = broker
        .consume(std::slice::from_ref(&queue), 50)
        .await
        .unwrap();

    broker.publish(text(&queue, "held")).await.unwrap();
    let held = next(&mut deliveries).await;
    proxy.cut();
    wait_until("a delivery of a cut connection is usable", || {
        !held.usable()
    })
    .await;
    held.ack().await.unwrap_err();
    wait_until("the broker does not come back", || broker.connected()).await;
    let again = next(&mut deliveries).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("held", true));
    again.ack().await.unwrap();

    // Under load: whatever was confirmed must come; duplicates are allowed.
    let publishing = tokio::spawn({
        let (broker, queue) = (Arc::clone(&broker), queue.clone());
        async move {
            let mut confirmed = BTreeSet::new();
            for number in 0..COUNT {
                // Not confirmed may mean arrived or not: a publisher that must not lose sends it again.
                while broker
                    .publish(text(&queue, &number.to_string()))
                    .await
                    .is_err()
                {}
                confirmed.insert(number.to_string());
            }
            confirmed
        }
    });
    let (mut seen, mut stale, mut delivered) = (BTreeSet::new(), 0, 0);
    while seen.len() < COUNT {
        let delivery = next(&mut deliveries).await;
        delivered += 1;
        if delivered % 400 == 0 {
            proxy.cut();
        }
        let number = body(&delivery);
        match delivery.ack().await {
            Ok(()) => {
                seen.insert(number);
            }
            Err(_) => stale += 1,
        }
        assert!(delivered < 3 * COUNT, "deliveries without end");
    }
    assert_eq!(publishing.await.unwrap(), seen);
    println!(
        "{delivered} deliveries of {COUNT} messages, {stale} acks refused, {} connections",
        proxy.accepted()
    );
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_waits_for_the_connection() {
    let (proxy, url) = proxied().await;
    let broker = petiole_broker::connect(&url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    wait_until("the loss goes unnoticed", || !broker.connected()).await;
    let waiting = tokio::spawn({
        let (broker, queue) = (Arc::clone(&broker), queue.clone());
        async move { broker.publish(text(&queue, "x")).await }
    });
    proxy.refuse(false);
    timeout(DEADLINE, waiting).await.unwrap().unwrap().unwrap();
    length_becomes(&broker, &queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_declared_again() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 5).await;
    let (_connection, channel) = channel().await;
    channel
        .queue_delete(place.queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    broker.publish(text(&place.queue, "x")).await.unwrap();
    assert_eq!(body(&next(&mut deliveries).await), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exists_is_taken_as_it_is() {
    let broker = Place::amqp().await.connect().await;
    let (_connection, channel) = channel().await;
    let of_type = |kind: &str| {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        arguments
    };
    let mut priorities = FieldTable::default();
    priorities.insert("x-max-priority".into(), AMQPValue::LongInt(10));
    for arguments in [of_type("quorum"), priorities] {
        let queue = unique();
        let options = QueueDeclareOptions::durable();
        channel
            .queue_declare(queue.as_str().into(), options, arguments)
            .await
            .unwrap();
        // And an exchange of the queue's name, of another type than Celery's.
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                queue.as_str().into(),
                ExchangeKind::Fanout,
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
        broker.declare(&queue).await.unwrap();
        for priority in [1, 9, 5] {
            let mut publication = text(&queue, &priority.to_string());
            publication.message.properties.priority = Some(priority);
            broker.publish(publication).await.unwrap();
        }
        length_becomes(&broker, &queue, 3).await;
        let mut deliveries = broker
            .consume(std::slice::from_ref(&queue), 3)
            .await
            .unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut deliveries).await;
            seen.push(body(&delivery));
            delivery.ack().await.unwrap();
        }
        seen.sort();
        assert_eq!(seen, ["1", "5", "9"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_finds_the_queue_as_it_declares_it() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let (_connection, channel) = channel().await;
    let name = || place.queue.as_str().into();
    // Kombu's own declarations, which RabbitMQ refuses where they differ from what there is.
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name(), ExchangeKind::Direct, durable, FieldTable::default())
        .await
        .unwrap();
    channel
        .queue_declare(
            name(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    broker.publish(text(&place.queue, "x")).await.unwrap();
    length_becomes(&broker, &place.queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses() {
    let place = Place::amqp().await;
    let broker = place.connect().await;
    let (_connection, channel) = channel().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    let options = QueueDeclareOptions::durable();
    channel
        .queue_declare(place.queue.as_str().into(), options, arguments)
        .await
        .unwrap();
    broker.publish(text(&place.queue, "x")).await.unwrap();
    let refused = broker.publish(text(&place.queue, "y")).await;
    assert!(
        matches!(refused, Err(PublishError::Nacked { .. })),
        "{refused:?}"
    );
    length_becomes(&broker, &place.queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_let_us_in_is_a_clear_error() {
    let good = Url::parse(rabbitmq::url().await).unwrap();
    let mut password = good.clone();
    password.set_password(Some("not-the-secret")).unwrap();
    let mut vhost = good.clone();
    vhost.set_path("/no-such-vhost");
    for (url, advice) in [
        (password.to_string(), "check the user name and the password"),
        (vhost.to_string(), "check the virtual host"),
        (
            "amqp://guest:not-the-secret@127.0.0.1:1//".to_owned(),
            "is a RabbitMQ listening there",
        ),
    ] {
        let error = timeout(DEADLINE, petiole_broker::connect(&url))
            .await
            .unwrap()
            .err()
            .unwrap();
        let message = error.to_string();
        assert!(
            matches!(error, BrokerError::Unreachable { .. }),
            "{message}"
        );
        assert!(message.contains(advice), "{message}");
        assert!(!message.contains("not-the-secret"), "{message}");
        println!("{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_url_is_tried() {
    let good = rabbitmq::url().await;
    let broker = petiole_broker::connect(&format!("amqp://127.0.0.1:1//;{good}"))
        .await
        .unwrap();
    assert!(broker.connected());
    broker.close().await;
}

#[tokio::test]
async fn deeply_nested_headers_end_no_process_with_large_stacks() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "amqp::takes_deeply_nested_headers",
            "--ignored",
            "--nocapture",
        ])
        .env("RUST_MIN_STACK", IO_STACK.to_string())
        .env("PETIOLE_TEST_AMQP_URL", rabbitmq::url().await)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the child process of another test"]
async fn takes_deeply_nested_headers() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let (_connection, channel) = channel().await;
    // Five bytes a level: nearly all that a frame can hold.
    let mut value = AMQPValue::Void;
    for _ in 0..26_000 {
        value = AMQPValue::FieldArray(FieldArray::from(vec![value]));
    }
    let mut headers = FieldTable::default();
    headers.insert("deep".into(), value);
    let properties = BasicProperties::default().with_headers(headers);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(
            "".into(),
            place.queue.as_str().into(),
            options,
            b"x",
            properties,
        )
        .await
        .unwrap();
    let delivery = next(&mut place.consume(&broker, 1).await).await;
    assert!(delivery.message.headers["deep"].is_array());
    delivery.ack().await.unwrap();
}
