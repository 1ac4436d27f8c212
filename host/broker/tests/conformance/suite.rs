//! Each test three times: by RabbitMQ's classic and quorum queues, and by the embedded broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use petiole_broker::{BODY_LIMIT, Broker, BrokerError, DELAY_LIMIT, PublishError, Terms};
use petiole_celery::{Destination, Message, Properties, Publication};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

use crate::{DEADLINE, Place, body, length_becomes, next, text, unique};

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::Place::amqp().await).await;
            })*
        }
        mod amqp_quorum {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::Place::quorum().await).await;
            })*
        }
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::Place::embedded().await).await;
            })*
        }
    };
}

suite! {
    properties_headers_and_body_survive,
    an_acked_message_is_gone,
    a_dropped_delivery_comes_again,
    a_rejected_delivery_does_not_come_again,
    a_closed_broker_gives_back_and_settles_nothing,
    unread_deliveries_go_back_and_held_ones_can_be_settled,
    prefetch_is_respected,
    who_looks_through_a_queue_has_one_message_more_than_was_taken,
    a_missing_exchange_is_unroutable,
    no_message_declares_a_queue,
    a_delayed_message_does_not_come_early,
    what_cannot_be_published_is_refused,
    several_queues_are_read_in_turn,
    a_queue_is_measured_and_purged,
    two_consumers_share_a_queue,
    a_large_body_survives,
    what_the_wire_can_not_carry_is_refused_and_kept,
    messages_outlive_the_connection,
    ten_thousand_messages_come_once,
    each_publisher_gets_its_own_answer,
    consuming_from_no_queue_is_an_error,
}

fn headers() -> Map<String, Value> {
    let Value::Object(headers) = json!({
        "lang": "py", "task": "my_app.tasks.run_task", "id": "0b1c", "shadow": null, "eta": null, "expires": null,
        "group": null, "group_index": null, "retries": 0, "timelimit": [null, 30], "root_id": "0b1c",
        "parent_id": null, "argsrepr": "(1, 'ä')", "kwargsrepr": "{}", "origin": "gen1@host",
        "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": ["a"],
        "stamps": {"a": ["x", {"deep": [1.5, -1, true]}]}, "large": 9_007_199_254_740_993_i64, "empty": {},
        "price": {"__type__": "amqp.decimal", "__value__": [2, 314]},
        "since": {"__type__": "amqp.timestamp", "__value__": 1_700_000_000},
        "bytes": {"__type__": "base64", "__value__": "AP8="}, "small": {"__type__": "amqp.u8", "__value__": 7},
    }) else {
        unreachable!()
    };
    headers
}

async fn properties_headers_and_body_survive(place: Place) {
    let broker = place.broker().await;
    let message = Message {
        properties: Properties {
            content_type: Some("application/json".to_owned()),
            content_encoding: Some("utf-8".to_owned()),
            persistent: true,
            priority: Some(3),
            correlation_id: Some("0b1c".to_owned()),
            reply_to: Some("reply".to_owned()),
            expiration: Some("600000".to_owned()),
            message_id: Some("mine".to_owned()),
            timestamp: Some(1_700_000_000),
            kind: Some("order".to_owned()),
            user_id: None,
            app_id: Some("shop".to_owned()),
            cluster_id: Some("c".to_owned()),
        },
        headers: headers(),
        body: b"[[1], {}, {}]\x00\xff".as_slice().into(),
    };
    let destination = Destination::queue(&place.queue);
    broker
        .publish(Publication {
            destination,
            message: message.clone(),
            mandatory: true,
            not_before: None,
        })
        .await
        .unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message.properties, message.properties);
    assert_eq!(
        sorted(delivery.message.headers.clone()),
        sorted(message.headers)
    );
    assert_eq!(delivery.message.body, message.body);
    // By the default exchange or, on RabbitMQ, by the queue's own.
    assert!(["", &place.queue].contains(&delivery.source.exchange.as_str()));
    assert_eq!(
        (&delivery.source.routing_key, &delivery.source.queue),
        (&place.queue, &place.queue)
    );
    assert!(!delivery.redelivered);
    assert!(delivery.receipt.usable());
    delivery.receipt.ack().await.unwrap();
}

fn sorted(headers: Map<String, Value>) -> BTreeMap<String, Value> {
    headers.into_iter().collect()
}

async fn who_looks_through_a_queue_has_one_message_more_than_was_taken(place: Place) {
    let broker = place.broker().await;
    let missing = broker.look_through(&unique()).await;
    assert!(matches!(missing, Err(BrokerError::Queue { .. })));
    for number in 0..5 {
        broker
            .publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let mut deliveries = broker.look_through(&place.queue).await.unwrap();
    let mut held = vec![next(&mut deliveries).await, next(&mut deliveries).await];
    length_becomes(&broker, &place.queue, 2).await;
    while let Some(delivery) = timeout(DEADLINE, deliveries.next()).await.unwrap() {
        held.push(delivery);
    }
    let bodies: Vec<_> = held.iter().map(body).collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
    held.remove(2).receipt.ack().await.unwrap();
    assert_eq!(broker.length(&place.queue).await, Ok(Some(0)));
    drop(deliveries);
    drop(held);
    length_becomes(&broker, &place.queue, 4).await;
}

async fn an_acked_message_is_gone(place: Place) {
    let broker = place.broker().await;
    for number in 0..3 {
        broker
            .publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let mut deliveries = place.consume(&broker, 10).await;
    let (first, _second, third) = (
        next(&mut deliveries).await,
        next(&mut deliveries).await,
        next(&mut deliveries).await,
    );
    // Out of order, so that one ack must not cover the other.
    third.receipt.ack().await.unwrap();
    first.receipt.ack().await.unwrap();
    broker.close().await;
    let again = place.connect().await;
    length_becomes(&again, &place.queue, 1).await;
    assert_eq!(body(&next(&mut place.consume(&again, 10).await).await), "1");
}

async fn a_dropped_delivery_comes_again(place: Place) {
    let broker = place.broker().await;
    broker.publish(text(&place.queue, "x")).await.unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    let first = next(&mut deliveries).await;
    assert!(!first.redelivered);
    drop(first);
    let second = next(&mut deliveries).await;
    assert!(second.redelivered);
    second.receipt.ack().await.unwrap();
    broker.close().await;
    length_becomes(&place.connect().await, &place.queue, 0).await;
}

async fn a_rejected_delivery_does_not_come_again(place: Place) {
    let broker = place.broker().await;
    broker.publish(text(&place.queue, "x")).await.unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    next(&mut deliveries).await.receipt.reject().await.unwrap();
    broker.publish(text(&place.queue, "y")).await.unwrap();
    assert_eq!(body(&next(&mut deliveries).await), "y");
}

async fn a_closed_broker_gives_back_and_settles_nothing(place: Place) {
    let broker = place.broker().await;
    broker.publish(text(&place.queue, "x")).await.unwrap();
    let mut deliveries = place.consume(&broker, 1).await;
    let held = next(&mut deliveries).await;
    assert!(broker.connected());
    broker.close().await;
    assert!(!broker.connected());
    assert!(!held.receipt.usable());
    timeout(DEADLINE, held.receipt.gone()).await.unwrap();
    held.receipt.ack().await.unwrap_err();
    assert!(
        timeout(DEADLINE, deliveries.next())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(broker.declare("other").await, Err(BrokerError::Closed));
    assert_eq!(
        broker.publish(text(&place.queue, "y")).await,
        Err(BrokerError::Closed.into())
    );

    let again = place.connect().await;
    let delivery = next(&mut place.consume(&again, 1).await).await;
    assert!(delivery.redelivered);
    assert_eq!(body(&delivery), "x");
}

async fn unread_deliveries_go_back_and_held_ones_can_be_settled(place: Place) {
    let broker = place.broker().await;
    for number in 0..10 {
        broker
            .publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let mut deliveries = place.consume(&broker, 10).await;
    let held = next(&mut deliveries).await;
    length_becomes(&broker, &place.queue, 0).await;
    drop(deliveries);
    length_becomes(&broker, &place.queue, 9).await;
    assert!(held.receipt.usable());
    held.receipt.ack().await.unwrap();
    broker.close().await;
    length_becomes(&place.connect().await, &place.queue, 9).await;
}

async fn prefetch_is_respected(place: Place) {
    let broker = place.broker().await;
    for number in 0..5 {
        broker
            .publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let mut deliveries = place.consume(&broker, 2).await;
    let first = next(&mut deliveries).await;
    let _second = next(&mut deliveries).await;
    length_becomes(&broker, &place.queue, 3).await;
    assert!(deliveries.next().now_or_never().is_none());
    first.receipt.ack().await.unwrap();
    let _third = next(&mut deliveries).await;
    length_becomes(&broker, &place.queue, 2).await;
}

async fn a_missing_exchange_is_unroutable(place: Place) {
    let broker = place.broker().await;
    let mut publication = text(&place.queue, "x");
    publication.destination.exchange = unique();
    let error = broker.publish(publication.clone()).await.unwrap_err();
    assert!(error.is_final(), "{error}");
    publication.mandatory = false;
    broker.publish(publication).await.unwrap();
    // The direct exchange that a queue is declared with.
    let mut direct = text(&place.queue, "y");
    direct.destination.exchange.clone_from(&place.queue);
    broker.publish(direct).await.unwrap();
    let delivery = next(&mut place.consume(&broker, 1).await).await;
    assert_eq!(
        (body(&delivery), &delivery.source.exchange),
        ("y".to_owned(), &place.queue)
    );
}

async fn no_message_declares_a_queue(place: Place) {
    let broker = place.connect().await;
    let mut reply = text(&place.queue, "lost");
    reply.mandatory = false;
    broker.publish(reply).await.unwrap();
    let late = Publication {
        not_before: Some(Timestamp::now() + SignedDuration::from_secs(10)),
        ..text(&place.queue, "late")
    };
    for mandatory in [text(&place.queue, "lost"), late] {
        let error = broker.publish(mandatory).await.unwrap_err();
        assert!(matches!(error, PublishError::Unroutable { .. }), "{error}");
        assert!(error.is_final());
    }
    assert_eq!(broker.length(&place.queue).await, Ok(None));
}

async fn a_delayed_message_does_not_come_early(place: Place) {
    let broker = place.broker().await;
    let mut deliveries = place.consume(&broker, 10).await;
    // The name ends in the other's, dot included.
    let longer = format!("x.{}", place.queue);
    broker.declare(&longer).await.unwrap();
    let due = Timestamp::now() + SignedDuration::from_millis(2100);
    for (queue, not_before) in [
        (&place.queue, Some(due)),
        (
            &place.queue,
            Some(Timestamp::now() - SignedDuration::from_secs(5)),
        ),
        (&longer, Some(due)),
    ] {
        let body = if not_before == Some(due) {
            "late"
        } else {
            "past"
        };
        broker
            .publish(Publication {
                not_before,
                ..text(queue, body)
            })
            .await
            .unwrap();
    }
    let past = next(&mut deliveries).await;
    assert_eq!(body(&past), "past");
    past.receipt.ack().await.unwrap();
    let delivery = next(&mut deliveries).await;
    let early = due.duration_since(Timestamp::now());
    assert!(early <= SignedDuration::ZERO, "{early} early");
    assert_eq!(body(&delivery), "late");
    assert_eq!(
        (
            delivery.source.exchange.as_str(),
            &delivery.source.routing_key
        ),
        ("", &place.queue)
    );

    // Again, headers and all, as a retry does.
    let message = delivery.message.clone();
    delivery.receipt.ack().await.unwrap();
    let due = Timestamp::now() + SignedDuration::from_millis(1100);
    let destination = Destination::queue(&place.queue);
    broker
        .publish(Publication {
            destination,
            message,
            mandatory: true,
            not_before: Some(due),
        })
        .await
        .unwrap();
    let late = next(&mut deliveries).await;
    assert!(Timestamp::now() >= due);
    assert_eq!(body(&late), "late");
    late.receipt.ack().await.unwrap();
    length_becomes(&broker, &longer, 1).await;
    length_becomes(&broker, &place.queue, 0).await;
}

async fn what_cannot_be_published_is_refused(place: Place) {
    let broker = place.broker().await;
    let large = Message {
        body: vec![0; BODY_LIMIT + 1].into(),
        ..Message::default()
    };
    let error = broker
        .publish(Publication {
            message: large,
            ..text(&place.queue, "")
        })
        .await;
    assert_eq!(
        error,
        Err(PublishError::TooLarge {
            size: BODY_LIMIT + 1,
            limit: BODY_LIMIT
        })
    );
    let not_before = Some(Timestamp::now() + SignedDuration::from_hours(24 * 365 * 10));
    let error = broker
        .publish(Publication {
            not_before,
            ..text(&place.queue, "")
        })
        .await;
    assert!(
        matches!(
            error,
            Err(PublishError::TooLate {
                limit: DELAY_LIMIT,
                ..
            })
        ),
        "{error:?}"
    );
    let not_before = Some(Timestamp::now() + SignedDuration::from_secs(10));
    let mut elsewhere = Publication {
        not_before,
        ..text(&place.queue, "")
    };
    elsewhere.destination.exchange.clone_from(&place.queue);
    let error = broker.publish(elsewhere).await;
    assert_eq!(
        error,
        Err(PublishError::Undelayable {
            exchange: place.queue.clone()
        })
    );
    length_becomes(&broker, &place.queue, 0).await;
}

async fn several_queues_are_read_in_turn(place: Place) {
    let broker = place.broker().await;
    let queues = [place.queue.clone(), unique(), unique()];
    for queue in &queues {
        broker.declare(queue).await.unwrap();
        for number in 0..20 {
            broker
                .publish(text(queue, &number.to_string()))
                .await
                .unwrap();
        }
    }
    let mut deliveries = broker.consume(&queues, Terms::prefetch(20)).await.unwrap();
    for queue in &queues {
        length_becomes(&broker, queue, 0).await;
    }
    // The last deliveries may still be on their way: only as many are looked at as surely are there.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let delivery = next(&mut deliveries).await;
        let count = counts.entry(delivery.source.queue.clone()).or_default();
        assert_eq!(
            body(&delivery),
            count.to_string(),
            "in the order of each queue"
        );
        *count += 1;
        delivery.receipt.ack().await.unwrap();
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [20, 20, 20]);
}

async fn a_queue_is_measured_and_purged(place: Place) {
    let broker = place.connect().await;
    assert_eq!(broker.length(&place.queue).await, Ok(None));
    broker.declare(&place.queue).await.unwrap();
    broker.declare(&place.queue).await.unwrap();
    assert_eq!(broker.length(&place.queue).await, Ok(Some(0)));
    for _ in 0..7 {
        broker.publish(text(&place.queue, "x")).await.unwrap();
    }
    length_becomes(&broker, &place.queue, 7).await;
    assert_eq!(broker.purge(&place.queue).await, Ok(7));
    assert_eq!(broker.length(&place.queue).await, Ok(Some(0)));
    assert!(matches!(
        broker.declare("").await,
        Err(BrokerError::Queue { .. })
    ));
}

async fn two_consumers_share_a_queue(place: Place) {
    let (one, two) = (place.broker().await, place.connect().await);
    let (mut first, mut second) = (place.consume(&one, 1).await, place.consume(&two, 1).await);
    for number in 0..2 {
        one.publish(text(&place.queue, &number.to_string()))
            .await
            .unwrap();
    }
    let (a, b) = (next(&mut first).await, next(&mut second).await);
    assert_eq!(
        BTreeSet::from([body(&a), body(&b)]),
        BTreeSet::from(["0".to_owned(), "1".to_owned()])
    );
    a.receipt.ack().await.unwrap();
    b.receipt.ack().await.unwrap();
    one.close().await;
    two.close().await;
    length_becomes(&place.connect().await, &place.queue, 0).await;
}

/// Headers over a frame, and over all of lapin's buffer; names and properties over 255 bytes; tables in tables.
async fn what_the_wire_can_not_carry_is_refused_and_kept(place: Place) {
    let broker = place.broker().await;
    let with_header = |name: &str, value: Value| Message {
        headers: Map::from_iter([(name.to_owned(), value)]),
        body: b"[[], {}, null]".as_slice().into(),
        ..Message::default()
    };
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    let long_id = Message {
        properties: Properties {
            correlation_id: Some("i".repeat(300)),
            ..Properties::default()
        },
        ..Message::default()
    };
    let unsendable = [
        with_header("shadow", json!("s".repeat(140_000))),
        with_header("shadow", json!("s".repeat(4 << 20))),
        with_header("filler", json!("f".repeat(130_700))),
        with_header(&"n".repeat(256), json!(1)),
        with_header("deep", deep),
        long_id,
    ];
    let mut deliveries = place.consume(&broker, 1).await;
    for message in unsendable {
        let publication = Publication {
            message,
            ..text("elsewhere", "")
        };
        let error = broker.publish(publication.clone()).await;
        assert!(
            matches!(error, Err(PublishError::Invalid { .. })),
            "{error:?}"
        );
        broker
            .publish(publication.kept(&place.queue, "too large"))
            .await
            .unwrap();
        let kept = next(&mut deliveries).await;
        let opened = petiole_celery::Kept::open(kept.message.clone()).unwrap();
        assert_eq!(opened.message, publication.message);
        assert_eq!(opened.destination, publication.destination);
        assert!(!kept.redelivered, "no connection was lost");
        kept.receipt.ack().await.unwrap();
    }
    assert!(broker.connected());
    length_becomes(&broker, &place.queue, 0).await;
}

async fn a_large_body_survives(place: Place) {
    let broker = place.broker().await;
    let large: Vec<u8> = (0..10 * 1024 * 1024_u32)
        .map(|index| (index % 251) as u8)
        .collect();
    let message = Message {
        body: large.clone().into(),
        ..Message::default()
    };
    broker
        .publish(Publication {
            message,
            ..text(&place.queue, "")
        })
        .await
        .unwrap();
    let delivery = next(&mut place.consume(&broker, 1).await).await;
    assert!(delivery.message.body == large);
    delivery.receipt.ack().await.unwrap();
}

async fn messages_outlive_the_connection(place: Place) {
    let broker = place.broker().await;
    broker.publish(text(&place.queue, "x")).await.unwrap();
    broker.close().await;
    drop(broker);
    let again = place.connect().await;
    let delivery = next(&mut place.consume(&again, 1).await).await;
    assert_eq!(body(&delivery), "x");
    assert!(!delivery.redelivered);
}

async fn ten_thousand_messages_come_once(place: Place) {
    const COUNT: usize = 10_000;
    let broker = place.broker().await;
    let started = Instant::now();
    let publishing = async {
        let mut numbers = 0..COUNT;
        let mut open = FuturesUnordered::new();
        loop {
            for number in numbers.by_ref().take(500 - open.len()) {
                open.push(broker.publish(text(&place.queue, &number.to_string())));
            }
            match open.next().await {
                Some(confirmed) => confirmed.unwrap(),
                None => break,
            }
        }
        println!("{COUNT} published in {:?}", started.elapsed());
    };
    let consuming = async {
        let mut deliveries = place.consume(&broker, 200).await;
        let mut seen = BTreeSet::new();
        let mut acks = FuturesUnordered::new();
        while seen.len() < COUNT {
            let delivery = next(&mut deliveries).await;
            assert!(
                seen.insert(body(&delivery)),
                "{} came twice",
                body(&delivery)
            );
            acks.push(delivery.receipt.ack());
            while let Some(Some(acked)) = acks.next().now_or_never() {
                acked.unwrap();
            }
        }
        while let Some(acked) = acks.next().await {
            acked.unwrap();
        }
        println!("{COUNT} consumed in {:?}", started.elapsed());
    };
    tokio::join!(publishing, consuming);
    broker.close().await;
    length_becomes(&place.connect().await, &place.queue, 0).await;
}

async fn each_publisher_gets_its_own_answer(place: Place) {
    let broker = place.broker().await;
    // A direct exchange with one binding: other routing keys lead nowhere.
    let exchange = place.queue.clone();
    let publishers = (0..8).map(|publisher| {
        let (broker, exchange): (Arc<dyn Broker>, String) = (Arc::clone(&broker), exchange.clone());
        tokio::spawn(async move {
            let mut open = FuturesUnordered::new();
            for number in 0..150 {
                let routable = (publisher + number * 7) % 3 != 0;
                let mut publication = text(&exchange, "x");
                publication.destination.exchange.clone_from(&exchange);
                if !routable {
                    publication.destination.routing_key = "nowhere".to_owned();
                }
                let publishing = broker.publish(publication);
                open.push(async move { (routable, publishing.await) });
                if open.len() >= 25 {
                    check(open.next().await);
                }
            }
            let mut taken = 150
                - (0..150)
                    .filter(|number| (publisher + number * 7) % 3 == 0)
                    .count();
            while let Some(answer) = open.next().await {
                check(Some(answer));
            }
            std::mem::take(&mut taken)
        })
    });
    let mut taken = 0;
    for publisher in publishers.collect::<Vec<_>>() {
        taken += publisher.await.unwrap();
    }
    length_becomes(&broker, &place.queue, taken as u64).await;
}

fn check(answer: Option<(bool, Result<(), PublishError>)>) {
    match answer {
        Some((true, Ok(()))) | Some((false, Err(PublishError::Unroutable { .. }))) => {}
        other => panic!("a wrong answer: {other:?}"),
    }
}

async fn consuming_from_no_queue_is_an_error(place: Place) {
    let broker = place.connect().await;
    let error = timeout(
        Duration::from_secs(20),
        broker.consume(std::slice::from_ref(&place.queue), Terms::prefetch(1)),
    )
    .await
    .unwrap();
    assert!(
        matches!(&error, Err(BrokerError::Queue { queue, .. } | BrokerError::Refused { queue, .. }) if *queue == place.queue),
        "{:?}",
        error.err()
    );
}
