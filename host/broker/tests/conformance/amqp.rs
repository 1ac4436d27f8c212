//! Tests of what only RabbitMQ can do, or do to us.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use petiole_broker::{Broker, BrokerError, PublishError, Terms};
use petiole_celery::Publication;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::proxy::{BASIC_ACK, BASIC_CANCEL, BASIC_CONSUME, BASIC_PUBLISH, CONFIRM_SELECT, Proxy};
use crate::{DEADLINE, Place, body, length_becomes, next, rabbitmq, raw, text, unique};

/// A proxy before the node, and the node's URL by it.
pub(crate) async fn proxied() -> (Proxy, String) {
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
    channel_to(rabbitmq::url().await).await
}

async fn channel_to(url: &str) -> (lapin::Connection, Channel) {
    let connection = rabbitmq::raw(url).await;
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_made_anew_and_nothing_is_lost() {
    const COUNT: usize = 2000;
    let (proxy, url) = proxied().await;
    let broker = crate::connect(&url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    let mut deliveries = broker
        .consume(std::slice::from_ref(&queue), Terms::prefetch(50))
        .await
        .unwrap();

    broker.publish(text(&queue, "held")).await.unwrap();
    let held = next(&mut deliveries).await;
    proxy.cut();
    wait_until("a delivery of a cut connection is usable", || {
        !held.receipt.usable()
    })
    .await;
    held.receipt.ack().await.unwrap_err();
    wait_until("the broker does not come back", || broker.connected()).await;
    let again = next(&mut deliveries).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("held", true));
    again.receipt.ack().await.unwrap();

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
        match delivery.receipt.ack().await {
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

/// Until RabbitMQ 4.2 a delivery that is held for too long closes its channel, which gives back all that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_closed_for_what_it_holds_gives_all_of_it_back() {
    if takes_how_long_a_consumer_holds().await {
        return;
    }
    let node = rabbitmq::own().await;
    let set = async |tick: u32, timeout: u32| {
        let settings = format!(
            "application:set_env([{{rabbit, [{{channel_tick_interval, {tick}}}, {{consumer_timeout, {timeout}}}]}}])."
        );
        node.ctl(&["eval", &settings]).await;
    };
    set(200, 1000).await;
    let broker = crate::connect(&node.url).await.unwrap();
    for quorum in [false, true] {
        let queue = unique();
        if quorum {
            rabbitmq::declare_quorum_at(&node.url, &queue).await;
        }
        broker.declare(&queue).await.unwrap();
        for number in ["1", "2"] {
            broker.publish(text(&queue, number)).await.unwrap();
        }
        let mut deliveries = broker
            .consume(std::slice::from_ref(&queue), Terms::prefetch(10))
            .await
            .unwrap();
        let held = next(&mut deliveries).await;
        timeout(DEADLINE, held.receipt.gone()).await.unwrap();
        assert!(!held.receipt.usable());
        held.receipt.ack().await.unwrap_err();
        for number in ["1", "2"] {
            let again = next(&mut deliveries).await;
            assert_eq!((body(&again).as_str(), again.redelivered), (number, true));
            again.receipt.ack().await.unwrap();
        }
        length_becomes(&broker, &queue, 0).await;
    }
    // Its own.
    set(60_000, 1_800_000).await;
}

fn holding(held: Duration) -> Terms {
    Terms {
        prefetch: 10,
        held: Some(held),
    }
}

/// True if the node is a RabbitMQ 4.3 or later: it refuses a consumer of a classic queue that says how long it holds.
async fn takes_how_long_a_consumer_holds() -> bool {
    let (_connection, channel) = channel().await;
    let queue = unique();
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.as_str().into(), options, FieldTable::default())
        .await
        .unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-consumer-timeout".into(), AMQPValue::LongInt(1000));
    let consumed = channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        arguments,
    );
    consumed.await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_may_say_how_long_it_holds_of_any_queue() {
    for place in [Place::amqp().await, Place::quorum().await] {
        let broker = place.broker().await;
        broker.publish(text(&place.queue, "x")).await.unwrap();
        // Longer than a timer can be.
        for held in [Duration::from_secs(600), Duration::MAX] {
            let queues = std::slice::from_ref(&place.queue);
            let mut deliveries = broker.consume(queues, holding(held)).await.unwrap();
            let delivery = next(&mut deliveries).await;
            assert_eq!(body(&delivery), "x");
            drop(deliveries);
            drop(delivery);
            length_becomes(&broker, &place.queue, 1).await;
        }
    }
}

/// From RabbitMQ 4.3 on the consumer of a quorum queue is ended, and its other deliveries stay with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_ended_consumer_holds_is_not_known_to_be_settled() {
    let place = Place::quorum().await;
    let broker = place.broker().await;
    if !takes_how_long_a_consumer_holds().await {
        return;
    }
    broker.publish(text(&place.queue, "1")).await.unwrap();
    let queues = std::slice::from_ref(&place.queue);
    let held = holding(Duration::from_secs(3));
    let mut deliveries = broker.consume(queues, held).await.unwrap();
    let first = next(&mut deliveries).await;
    let again = next(&mut deliveries).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("1", true));
    assert!(first.receipt.usable(), "what is under way is not given up");
    let unsettled = first.receipt.ack().await.unwrap_err();
    assert!(unsettled.reason.contains("ended"), "{unsettled}");
    again.receipt.ack().await.unwrap();
    broker.publish(text(&place.queue, "2")).await.unwrap();
    let other = next(&mut deliveries).await;
    assert_eq!((body(&other).as_str(), other.redelivered), ("2", false));
    other.receipt.ack().await.unwrap();
    length_becomes(&broker, &place.queue, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_waits_for_the_connection() {
    let (proxy, url) = proxied().await;
    let broker = crate::connect(&url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    wait_until("the loss goes unnoticed", || !broker.connected()).await;
    let waiting = tokio::spawn({
        let (broker, queue) = (Arc::clone(&broker), queue.clone());
        // One that was written to a connection whose loss was not known yet: the next one waits.
        async move {
            match broker.publish(text(&queue, "x")).await {
                Err(PublishError::NotConfirmed { .. }) => broker.publish(text(&queue, "x")).await,
                other => other,
            }
        }
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
    publish_once_declared(&broker, text(&place.queue, "x")).await;
    assert_eq!(body(&next(&mut deliveries).await), "x");
}

/// Until the consumer has declared the queue again the message is unroutable.
async fn publish_once_declared(broker: &Arc<dyn Broker>, publication: Publication) {
    let started = Instant::now();
    while let Err(error) = broker.publish(publication.clone()).await {
        assert!(matches!(error, PublishError::Unroutable { .. }), "{error}");
        assert!(started.elapsed() < DEADLINE);
        sleep(Duration::from_millis(10)).await;
    }
}

fn later(queue: &str, body: &str, seconds: i64) -> Publication {
    Publication {
        not_before: Some(Timestamp::now() + SignedDuration::from_secs(seconds)),
        ..text(queue, body)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_messages_find_a_queue_that_its_consumer_has_declared_again() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 5).await;
    // In time for the deletion and what follows it.
    broker
        .publish(later(&place.queue, "under way", 10))
        .await
        .unwrap();
    let (_connection, channel) = channel().await;
    channel
        .queue_delete(place.queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    publish_once_declared(&broker, later(&place.queue, "after", 1)).await;
    for want in ["after", "under way"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), want);
        delivery.receipt.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_messages_find_a_queue_that_somebody_has_declared_again() {
    let place = Place::amqp().await;
    let broker = place.broker().await;
    broker.publish(later(&place.queue, "x", 1)).await.unwrap();
    length_becomes(&broker, &place.queue, 1).await;
    let (_connection, channel) = channel().await;
    let name = || place.queue.as_str().into();
    channel
        .queue_delete(name(), QueueDeleteOptions::default())
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
    broker.publish(later(&place.queue, "y", 1)).await.unwrap();
    length_becomes(&broker, &place.queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_of_the_delays_is_declared_again() {
    let node = rabbitmq::own().await;
    let broker = crate::connect(&node.url).await.unwrap();
    let queue = unique();
    broker.declare(&queue).await.unwrap();
    // By the level of 2 s alone.
    broker.publish(later(&queue, "x", 2)).await.unwrap();
    let (_connection, channel) = channel_to(&node.url).await;
    let delete_exchange = async |name: &str| {
        channel
            .exchange_delete(name.into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    };
    channel
        .queue_delete("celery_delayed_1".into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    broker.publish(later(&queue, "x", 2)).await.unwrap();
    delete_exchange("celery_delayed_27").await;
    broker.publish(later(&queue, "x", 2)).await.unwrap();
    delete_exchange("celery_delayed_delivery").await;
    broker.publish(later(&queue, "x", 2)).await.unwrap();
    // The first may have gone with the queue that it was in.
    let started = Instant::now();
    while broker.length(&queue).await.unwrap() < Some(3) {
        assert!(started.elapsed() < DEADLINE, "a delayed message is lost");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_not_answered_is_made_anew() {
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 5).await;
    proxy.swallow(BASIC_CONSUME, 1);
    let (_connection, channel) = channel().await;
    channel
        .queue_delete(place.queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    publish_once_declared(&broker, text(&place.queue, "x")).await;
    assert_eq!(body(&next(&mut deliveries).await), "x");
    assert_eq!(proxy.came(BASIC_CONSUME), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_end_is_not_answered_gives_back_what_it_has() {
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    let broker = place.broker().await;
    for _ in 0..5 {
        broker.publish(text(&place.queue, "x")).await.unwrap();
    }
    let mut deliveries = place.consume(&broker, 5).await;
    let held = next(&mut deliveries).await;
    proxy.swallow(BASIC_CANCEL, 1);
    drop(deliveries);
    length_becomes(&broker, &place.queue, 5).await;
    assert!(!held.receipt.usable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publishing_channel_that_is_not_answered_is_made_anew() {
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    // All that go alone, as a first message does.
    proxy.swallow(CONFIRM_SELECT, 4);
    let broker = place.broker().await;
    let started = Instant::now();
    while let Err(error) = broker.publish(text(&place.queue, "x")).await {
        assert!(matches!(error, PublishError::OutOfReach { .. }), "{error}");
        assert!(started.elapsed() < DEADLINE, "no channel for publishing");
    }
    length_becomes(&broker, &place.queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_stuck_is_replaced_before_its_confirms_are_given_up() {
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    let broker = place.broker().await;
    broker.publish(text(&place.queue, "x")).await.unwrap();
    // Those for messages that go alone.
    wait_until("the first channels", || proxy.came(CONFIRM_SELECT) == 4).await;
    proxy.mute(BASIC_PUBLISH, 1);
    let publishing = tokio::spawn({
        let (broker, queue) = (Arc::clone(&broker), place.queue.clone());
        async move { broker.publish(text(&queue, "x")).await }
    });
    // The channel that is stuck, and the one in its place.
    wait_until("the channel is not replaced", || {
        proxy.came(CONFIRM_SELECT) == 6
    })
    .await;
    let error = publishing.await.unwrap().unwrap_err();
    assert!(
        matches!(error, PublishError::NotConfirmed { .. }),
        "{error}"
    );
    broker.publish(text(&place.queue, "x")).await.unwrap();
    length_becomes(&broker, &place.queue, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_waits_for_one_that_is_stuck_while_a_channel_is_idle() {
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    let broker = place.broker().await;
    wait_until("the first channels", || proxy.came(CONFIRM_SELECT) == 4).await;
    // Each larger than those that the broker has taken, so each goes alone.
    let alone = |size: usize| text(&place.queue, &"x".repeat(size));
    proxy.mute(BASIC_PUBLISH, 1);
    let stuck = tokio::spawn({
        let (broker, alone) = (Arc::clone(&broker), alone(1));
        async move { broker.publish(alone).await }
    });
    wait_until("the first message", || proxy.came(BASIC_PUBLISH) == 1).await;
    for size in 2..22 {
        broker.publish(alone(size)).await.unwrap();
    }
    assert!(!stuck.is_finished(), "the others took as long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_the_broker_has_closed_are_made_up_for() {
    let place = Place::amqp().await;
    let broker = crate::connect(&format!("{}?channel_max=20", place.url))
        .await
        .unwrap();
    broker.declare(&place.queue).await.unwrap();
    let missing = unique();
    let mut nowhere = text("key", "x");
    nowhere.destination.exchange = unique();
    let started = Instant::now();
    for _ in 0..60 {
        while let Err(error) = broker.length(&missing).await {
            assert!(matches!(error, BrokerError::Lost { .. }), "{error}");
            assert!(started.elapsed() < DEADLINE, "{error}");
        }
        while let Err(error) = broker.publish(nowhere.clone()).await
            && !error.is_final()
        {
            assert!(started.elapsed() < DEADLINE, "{error}");
        }
    }
    broker.publish(text(&place.queue, "x")).await.unwrap();
    length_becomes(&broker, &place.queue, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_messages_at_once_open_few_channels() {
    let place = Place::amqp().await;
    let broker = crate::connect(&format!("{}?channel_max=600", place.url))
        .await
        .unwrap();
    broker.declare(&place.queue).await.unwrap();
    let late = (0..2000).map(|_| broker.publish(later(&place.queue, "x", 1)));
    for published in join_all(late).await {
        published.unwrap();
    }
    length_becomes(&broker, &place.queue, 2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_an_exchange_that_takes_them_go_side_by_side() {
    const COUNT: usize = 100;
    let (proxy, url) = proxied().await;
    let place = Place {
        url,
        ..Place::amqp().await
    };
    let broker = place.broker().await;
    let mut message = text("key", "x");
    message.destination.exchange = unique();
    let (_connection, channel) = channel().await;
    let exchange = || message.destination.exchange.as_str().into();
    channel
        .exchange_declare(
            exchange(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel
        .queue_bind(
            place.queue.as_str().into(),
            exchange(),
            "key".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    // The first goes alone, the second is the first on its channel.
    for _ in 0..2 {
        broker.publish(message.clone()).await.unwrap();
    }
    // None waits for another's confirm.
    proxy.swallow(BASIC_ACK, usize::MAX);
    let before = proxy.came(BASIC_PUBLISH);
    for _ in 0..COUNT {
        let (broker, message) = (Arc::clone(&broker), message.clone());
        tokio::spawn(async move { broker.publish(message).await });
    }
    wait_until("messages wait for each other", || {
        proxy.came(BASIC_PUBLISH) == before + COUNT
    })
    .await;
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
            .consume(std::slice::from_ref(&queue), Terms::prefetch(3))
            .await
            .unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let delivery = next(&mut deliveries).await;
            seen.push(body(&delivery));
            delivery.receipt.ack().await.unwrap();
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
        let error = timeout(DEADLINE, crate::connect(&url))
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
    let broker = crate::connect(&format!("amqp://127.0.0.1:1//;{good}"))
        .await
        .unwrap();
    assert!(broker.connected(), "not at once");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_can_not_be_read_arrive_with_a_reason_on_the_same_connection() {
    let (proxy, url) = proxied().await;
    let place = Place::amqp().await;
    let broker = crate::connect(&url).await.unwrap();
    broker.declare(&place.queue).await.unwrap();
    let accepted = proxy.accepted();
    let invalid = |flag| raw::one(flag, b"x\xff");
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (raw::headers(&[(b"na\xffme", raw::text(b"x"))]), None),
        (raw::headers(&[(b"n", raw::nested(60))]), None),
        // The largest that a publisher's frame can hold.
        (raw::headers(&[(b"n", raw::text(&[b'x'; 131_045]))]), None),
        (
            invalid(0x8000),
            Some("content_type \"x\u{fffd}\" is no UTF-8"),
        ),
        (
            invalid(0x0400),
            Some("correlation_id \"x\u{fffd}\" is no UTF-8"),
        ),
        (invalid(0x0200), Some("reply_to \"x\u{fffd}\" is no UTF-8")),
        (
            invalid(0x0080),
            Some("message_id \"x\u{fffd}\" is no UTF-8"),
        ),
        (invalid(0x0020), Some("type \"x\u{fffd}\" is no UTF-8")),
        (invalid(0x0008), Some("app_id \"x\u{fffd}\" is no UTF-8")),
        (
            invalid(0x0004),
            Some("cluster_id \"x\u{fffd}\" is no UTF-8"),
        ),
        (
            raw::headers(&[(b"n", raw::nested(1_000))]),
            Some("headers nested deeper than 60"),
        ),
        (
            raw::headers(&[(b"n", raw::nested(26_000))]),
            Some("headers nested deeper than 60"),
        ),
        (vec![0, 0], None),
    ];
    let messages: Vec<(Vec<u8>, &str)> = cases
        .iter()
        .map(|(properties, _)| (properties.clone(), "x"))
        .collect();
    let (node, key) = (place.url.clone(), place.queue.clone());
    tokio::task::spawn_blocking(move || raw::publish(&node, "", key.as_bytes(), &messages))
        .await
        .unwrap();
    let mut deliveries = place.consume(&broker, 3).await;
    for (properties, want) in &cases {
        let delivery = next(&mut deliveries).await;
        let reason = delivery.message.headers.get(petiole_celery::UNREADABLE);
        let start = &properties[..properties.len().min(40)];
        assert_eq!(
            reason.and_then(|reason| reason.as_str()),
            *want,
            "{start:?}"
        );
        assert_eq!(body(&delivery), "x");
        delivery.receipt.ack().await.unwrap();
    }
    length_becomes(&broker, &place.queue, 0).await;
    assert_eq!(proxy.accepted(), accepted, "the connection was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_the_broker_makes_larger_than_a_frame_arrive() {
    let (proxy, url) = proxied().await;
    let place = Place::amqp().await;
    let broker = crate::connect(&url).await.unwrap();
    broker.declare(&place.queue).await.unwrap();
    let accepted = proxy.accepted();
    // Messages that wait there are dead-lettered to our queue, with an `x-death` of some hundred bytes.
    let (_connection, channel) = channel().await;
    let waiting = unique();
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(1));
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString("".into()),
    );
    let target = AMQPValue::LongString(place.queue.as_str().into());
    arguments.insert("x-dead-letter-routing-key".into(), target);
    channel
        .queue_declare(
            waiting.as_str().into(),
            QueueDeclareOptions::durable(),
            arguments,
        )
        .await
        .unwrap();
    let sizes = [130_400, 130_800, 131_000, 131_045];
    let messages: Vec<(Vec<u8>, &str)> = sizes
        .iter()
        .map(|size| (raw::headers(&[(b"n", raw::text(&vec![b'x'; *size]))]), "x"))
        .collect();
    let (node, key) = (place.url.clone(), waiting.clone());
    tokio::task::spawn_blocking(move || raw::publish(&node, "", key.as_bytes(), &messages))
        .await
        .unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    for size in sizes {
        let delivery = next(&mut deliveries).await;
        let headers = &delivery.message.headers;
        assert_eq!(headers.get(petiole_celery::UNREADABLE), None);
        assert_eq!(headers["n"].as_str().unwrap().len(), size);
        assert!(headers["x-death"].is_array());
        delivery.receipt.ack().await.unwrap();
    }
    assert_eq!(proxy.accepted(), accepted, "the connection was lost");
    channel
        .queue_delete(waiting.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routing_key_that_is_no_text_arrives_with_a_reason() {
    let (proxy, url) = proxied().await;
    let place = Place::amqp().await;
    let broker = crate::connect(&url).await.unwrap();
    broker.declare(&place.queue).await.unwrap();
    let accepted = proxy.accepted();
    let (_connection, channel) = channel().await;
    let exchange = unique();
    channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel
        .queue_bind(
            place.queue.as_str().into(),
            exchange.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let (node, name) = (place.url.clone(), exchange.clone());
    tokio::task::spawn_blocking(move || {
        raw::publish(
            &node,
            &name,
            b"k\xff",
            &[(vec![0, 0], "x"), (vec![0, 0], "x")],
        );
    })
    .await
    .unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    for _ in 0..2 {
        let delivery = next(&mut deliveries).await;
        let reason = delivery.message.headers[petiole_celery::UNREADABLE].as_str();
        assert_eq!(reason, Some("the exchange or the routing key is no UTF-8"));
        assert_eq!(delivery.source.routing_key, "k\u{fffd}");
        delivery.receipt.ack().await.unwrap();
    }
    assert_eq!(proxy.accepted(), accepted, "the connection was lost");
}
