#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use petiole_broker::{Answer, BrokerError, Deliveries};
use petiole_celery::plan::Settle;
use petiole_celery::{Destination, Exception, Message, State};
use petiole_results::ResultBackend;
use serde_json::Value;

use super::*;

/// A broker that gives the answers it was told to give, then takes everything.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<PublishError>>,
    taken: Mutex<Vec<String>>,
    asked: Mutex<u32>,
    declared: Mutex<Vec<String>>,
}

impl Broker for Scripted {
    fn declare<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.declared.lock().unwrap().push(queue.to_owned());
        async { Ok(()) }.boxed()
    }

    fn consume<'a>(
        &'a self,
        _: &'a [String],
        _: u16,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        async { Err(BrokerError::Closed) }.boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<(), PublishError>> {
        *self.asked.lock().unwrap() += 1;
        let answer = match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => {
                let queue = publication.destination.routing_key;
                self.taken.lock().unwrap().push(queue);
                Ok(())
            }
        };
        async { answer }.boxed()
    }

    fn length<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<u64>, BrokerError>> {
        async { Ok(None) }.boxed()
    }

    fn purge<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        async { Ok(0) }.boxed()
    }

    fn connected(&self) -> bool {
        true
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

/// A backend that refuses.
struct Refusing {
    is_final: bool,
}

impl ResultBackend for Refusing {
    fn store<'a>(&'a self, _: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        let error = ResultError::Refused {
            backend: "redis://x".to_owned(),
            is_final: self.is_final,
            source: "NOPERM".into(),
        };
        async { Err(error) }.boxed()
    }

    fn fetch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        async { Ok(None) }.boxed()
    }
}

fn refused(code: u16) -> PublishError {
    PublishError::Refused {
        exchange: String::new(),
        routing_key: "next".to_owned(),
        answer: Answer {
            code,
            text: "the broker's words".to_owned(),
        },
    }
}

fn nacked() -> PublishError {
    PublishError::Nacked {
        exchange: String::new(),
        routing_key: "next".to_owned(),
    }
}

fn unroutable() -> PublishError {
    PublishError::Unroutable {
        exchange: String::new(),
        routing_key: "kept".to_owned(),
    }
}

fn to(queue: &str) -> Publication {
    Publication {
        destination: Destination::queue(queue),
        message: Message::default(),
        mandatory: true,
        not_before: None,
    }
}

fn plan(publications: Vec<Publication>, ended: Ended) -> Plan {
    Plan {
        results: Vec::new(),
        publications,
        settle: Settle::Ack,
        ended,
    }
}

fn with_result(plan: Plan) -> Plan {
    let meta = TaskMeta {
        task_id: "a".to_owned(),
        status: State::Success,
        result: Value::Null,
        traceback: None,
        children: Vec::new(),
        date_done: Some(Timestamp::UNIX_EPOCH),
        group_id: None,
        parent_id: None,
        extended: None,
    };
    Plan {
        results: vec![meta],
        ..plan
    }
}

fn retry() -> Ended {
    Ended::Retry {
        exception: Exception::new("builtins", "ValueError", "x"),
    }
}

fn servers(answers: Vec<PublishError>, results: Results) -> (Arc<Scripted>, Servers) {
    let broker = Arc::new(Scripted::default());
    *broker.answers.lock().unwrap() = answers.into();
    let servers = Servers::new(
        Arc::clone(&broker) as Arc<dyn Broker>,
        results,
        "kept".to_owned(),
    );
    (broker, servers)
}

/// The queues that have got a message, and how often the broker was asked.
fn seen(broker: &Scripted) -> (Vec<String>, u32) {
    let taken = broker.taken.lock().unwrap().clone();
    (taken, *broker.asked.lock().unwrap())
}

fn strings(queues: &[&str]) -> Vec<String> {
    queues.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_refused_callback_is_kept_at_once_and_the_others_go() {
    let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
    let plan = plan(vec![to("next"), to("other")], Ended::Success);
    assert_eq!(servers.carry_out(&plan).await.unwrap(), Carried::Out);
    assert_eq!(seen(&broker), (strings(&["other", "kept"]), 3));
}

#[tokio::test]
async fn passing_trouble_is_tried_again_for_the_one_it_hit() {
    let (broker, servers) = servers(vec![nacked(), refused(541)], Results::Disabled);
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(servers.carry_out(&plan).await.unwrap(), Carried::Out);
    assert_eq!(seen(&broker), (strings(&["next"]), 3));
}

#[tokio::test]
async fn when_patience_is_over_what_is_left_is_kept() {
    let (broker, mut servers) = servers(vec![nacked(), nacked()], Results::Disabled);
    servers.patience = Duration::ZERO;
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(servers.carry_out(&plan).await.unwrap(), Carried::Out);
    assert_eq!(seen(&broker), (strings(&["kept"]), 3));
}

#[tokio::test]
async fn a_task_that_cannot_be_sent_on_is_given_up_with_the_brokers_words() {
    for ended in [retry(), Ended::Postponed] {
        let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
        let plan = plan(vec![to("next")], ended);
        match servers.carry_out(&plan).await.unwrap() {
            Carried::GivenUp(reason) => assert!(reason.contains("the broker's words"), "{reason}"),
            Carried::Out => panic!("carried out"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 1));
    }
}

#[tokio::test]
async fn a_result_that_is_refused_for_good_gives_the_plan_up_before_anything_is_sent() {
    for (is_final, patience) in [(true, PATIENCE), (false, Duration::ZERO)] {
        let backend = Results::Backend(Arc::new(Refusing { is_final }));
        let (broker, mut servers) = servers(Vec::new(), backend);
        servers.patience = patience;
        let plan = with_result(plan(vec![to("next")], Ended::Success));
        match servers.carry_out(&plan).await.unwrap() {
            Carried::GivenUp(reason) => assert!(reason.contains("NOPERM"), "{reason}"),
            Carried::Out => panic!("carried out"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn a_message_is_kept_even_where_its_result_cannot_be_stored() {
    let backend = Results::Backend(Arc::new(Refusing { is_final: true }));
    let (broker, servers) = servers(vec![unroutable()], backend);
    let plan = with_result(plan(vec![to("kept")], Ended::Revoked));
    servers.keep(&plan).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["kept"]));
    assert_eq!(*broker.declared.lock().unwrap(), strings(&["kept"]));
}

#[tokio::test]
async fn what_can_be_kept_nowhere_is_a_fault() {
    let (_, refusing) = servers(vec![refused(403)], Results::Disabled);
    let keeping = plan(vec![to("kept")], Ended::Revoked);
    let fault = refusing.keep(&keeping).await.unwrap_err();
    assert!(matches!(fault, Fault::Publish(_)), "{fault}");

    let backend = Results::Backend(Arc::new(Refusing { is_final: true }));
    let (_, refusing) = servers(Vec::new(), backend);
    let nothing_kept = with_result(plan(Vec::new(), Ended::Revoked));
    let fault = refusing.keep(&nothing_kept).await.unwrap_err();
    assert!(matches!(fault, Fault::Store(_)), "{fault}");
}

#[tokio::test]
async fn a_cold_shutdown_ends_the_tries() {
    let (_, servers) = servers(vec![nacked(); 1000], Results::Disabled);
    let plan = plan(vec![to("next")], Ended::Success);
    let mut carrying = std::pin::pin!(servers.carry_out(&plan));
    assert!(futures::poll!(carrying.as_mut()).is_pending());
    servers.shutdown.cold();
    let fault = carrying.await.unwrap_err();
    assert!(matches!(fault, Fault::ColdShutdown), "{fault}");
}
