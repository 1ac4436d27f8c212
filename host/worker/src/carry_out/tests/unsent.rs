//! The messages that could not be sent, and what goes out instead.

use super::*;

#[test]
fn what_the_broker_does_not_take_is_tried_for_a_while() {
    for (exchange, longest) in [("", 180), ("fanout", 20)] {
        let mut one = Unconfirmed::of(Cow::Owned(to("next")));
        one.publication.to_mut().destination.exchange = exchange.to_owned();
        let mut patience = Patience::new(PATIENCE);
        let mut pauses = Duration::ZERO;
        one.note(&refused(541));
        while !one.is_nacked_too_often() {
            one.note(&nacked());
            pauses += patience.next_pause();
        }
        let took = pauses.as_secs();
        assert!((longest / 2..=longest).contains(&took), "{took} s");
    }
}

/// A task whose errback has a queue of its own.
fn with_errback(queue: &str) -> Publication {
    let body = serde_json::json!([[], {}, {"errbacks": [{"task": "a.oops", "options": {"queue": queue}}]}]);
    let headers = serde_json::json!({"task": "a.b", "id": queue});
    let mut publication = to("next");
    publication.message.properties.content_type = Some("application/json".to_owned());
    publication.message.headers = headers.as_object().unwrap().clone();
    publication.message.body = serde_json::to_vec(&body).unwrap().into();
    publication
}

#[tokio::test]
async fn what_is_published_instead_is_out_before_that_of_the_next() {
    let (broker, servers) = servers(vec![refused(403), refused(403)], Results::Disabled);
    let publications = vec![with_errback("one"), with_errback("two"), to("other")];
    let plan = plan(publications, Ended::Success);
    let carried = servers.carry_out(&plan, None, Taken::default()).await;
    assert_eq!(carried.unwrap(), Carried::Out);
    let mut taken = seen(&broker).0;
    assert_eq!(taken.remove(0), "other");
    for pair in taken.chunks_mut(2) {
        pair.sort();
    }
    assert_eq!(taken, strings(&["kept", "one", "kept", "two"]));
}

/// Runs until it is so, while the plan is not out.
async fn until(carrying: impl Future<Output: std::fmt::Debug>, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        carried = carrying => panic!("{carried:?}"),
        () = so => {}
    }
}

#[tokio::test]
async fn a_refused_callback_does_not_wait_for_the_trouble_of_others() {
    let broken = Scripted {
        answers: Mutex::new(vec![refused(403), refused(403)].into()),
        ..breaking("away", nacked(), Duration::ZERO)
    };
    let (broker, servers) = with_broker(broken, Results::Disabled);
    let plan = plan(
        vec![with_errback("one"), with_errback("two"), to("away")],
        Ended::Success,
    );
    let carrying = servers.carry_out(&plan, None, Taken::default());
    until(carrying, || seen(&broker).0.len() == 4).await;
    let mut taken = seen(&broker).0;
    taken.sort();
    assert_eq!(taken, strings(&["kept", "kept", "one", "two"]));
}

#[tokio::test]
async fn what_else_a_held_message_came_with_is_sent_once() {
    for error in [refused(403), nacked()] {
        let backend = Arc::new(Keeping::default());
        let broken = breaking("kept", error, Duration::ZERO);
        let (broker, servers) = with_broker(broken, Results::Backend(backend.clone()));
        let run = run();
        let refusing = with_result(plan(vec![to("errback"), kept()], failed()));
        let mut carrying =
            std::pin::pin!(servers.carry_out(&refusing, ending(&run), Taken::default()));
        until(carrying.as_mut(), || {
            backend.commits.lock().unwrap().len() == 2
        })
        .await;
        assert!(servers.outages.quarantine.lasts());
        // A worker that is told to stop does not wait, and the next one has this alone to send.
        servers.shutdown.warm();
        let fault = carrying.await.unwrap_err();
        assert!(matches!(fault, Fault::NotKept), "{fault}");
        let left = servers.committed(&run).await.unwrap().unwrap();
        assert_eq!(left.publications, vec![kept()]);
        assert_eq!(seen(&broker).0, strings(&["errback"]));
    }
}

#[tokio::test]
async fn what_stands_in_for_refused_messages_is_sent_once() {
    let backend = Arc::new(Keeping::default());
    let broken = Scripted {
        answers: Mutex::new(vec![refused(403), refused(403)].into()),
        ..breaking("kept", nacked(), Duration::ZERO)
    };
    let (broker, servers) = with_broker(broken, Results::Backend(backend.clone()));
    let run = run();
    let plan = with_result(plan(
        vec![with_errback("one"), with_errback("two")],
        Ended::Success,
    ));
    let mut carrying = std::pin::pin!(servers.carry_out(&plan, ending(&run), Taken::default()));
    // Of the run; of the task that "one" stands for there is a state only.
    let records = || {
        let commits = backend.commits.lock().unwrap().clone();
        commits.len()
    };
    until(carrying.as_mut(), || records() == 2).await;
    *broker.places.lock().unwrap() = 1;
    until(carrying.as_mut(), || records() == 3).await;
    servers.shutdown.warm();
    assert!(matches!(carrying.await, Err(Fault::NotKept)));
    assert!(!servers.outages.quarantine.lasts(), "nobody waits for it");
    let left = servers.committed(&run).await.unwrap().unwrap();
    assert_eq!(left.publications.len(), 1);
    assert_eq!(left.publications[0].message.headers["id"], "two");
    assert_eq!(seen(&broker).0, strings(&["one", "kept", "two"]));
}
