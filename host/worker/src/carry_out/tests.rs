#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod publishing;
mod results;
mod unsent;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use petiole_broker::{Answer, BrokerError, Deliveries, Terms};
use petiole_celery::plan::{Ended, ResultMode, Settle};
use petiole_celery::{Destination, Exception, Message, Routes, State};
use petiole_storage::results::ResultBackend;
use serde_json::Value;
use tokio::time::Instant;

use super::patience::*;
use super::publishing::smaller;
use super::unsent::Unconfirmed;
use super::*;

/// A broker that gives the answers it was told to give, then takes everything.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<PublishError>>,
    taken: Mutex<Vec<String>>,
    asked: Mutex<u32>,
    declared: Mutex<Vec<String>>,
    /// A queue that never gets anything: the answer, and how long that takes.
    broken: Option<(&'static str, PublishError, Duration)>,
    /// Messages that it gets all the same.
    places: Mutex<u32>,
}

impl Scripted {
    fn has_place(&self) -> bool {
        let mut places = self.places.lock().unwrap();
        let left = places.checked_sub(1);
        *places = left.unwrap_or(0);
        left.is_some()
    }
}

impl Broker for Scripted {
    fn declare<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>> {
        self.declared.lock().unwrap().push(queue.to_owned());
        async { Ok(()) }.boxed()
    }

    fn consume<'a>(
        &'a self,
        _: &'a [String],
        _: Terms,
    ) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        async { Err(BrokerError::Closed) }.boxed()
    }

    fn look_through<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Deliveries, BrokerError>> {
        async { Err(BrokerError::Closed) }.boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<(), PublishError>> {
        *self.asked.lock().unwrap() += 1;
        if let Some((queue, error, wait)) = &self.broken
            && publication.destination.routing_key == *queue
            && !self.has_place()
        {
            return async move {
                tokio::time::sleep(*wait).await;
                Err(error.clone())
            }
            .boxed();
        }
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

    fn held(&self) -> u64 {
        0
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

fn not_taken(is_final: bool) -> ResultError {
    ResultError::Refused {
        backend: "redis://x".to_owned(),
        is_final,
        source: "NOPERM".into(),
    }
}

/// A backend that refuses, or does for a while.
struct Refusing {
    is_final: bool,
    /// Questions up to and with the first that it answers.
    left: Mutex<u32>,
}

impl Refusing {
    fn always(is_final: bool) -> Arc<Self> {
        Self::times(is_final, u32::MAX)
    }

    fn times(is_final: bool, left: u32) -> Arc<Self> {
        let left = Mutex::new(left);
        Arc::new(Self { is_final, left })
    }

    fn answer(&self) -> Result<(), ResultError> {
        let mut left = self.left.lock().unwrap();
        *left = left.saturating_sub(1);
        match *left {
            0 => Ok(()),
            _ => Err(not_taken(self.is_final)),
        }
    }
}

impl ResultBackend for Refusing {
    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        async { self.answer() }.boxed()
    }

    fn store<'a>(&'a self, _: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        async { self.answer() }.boxed()
    }

    fn tell<'a>(
        &'a self,
        _: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>> {
        self.store(meta)
    }

    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        async move {
            match end.results {
                [] => Ok(None),
                [meta, ..] => self.store(meta).await.map(|()| None),
            }
        }
        .boxed()
    }

    fn committed<'a>(
        &'a self,
        _: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        async { Ok(None) }.boxed()
    }

    fn fetch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        async { Ok(None) }.boxed()
    }
}

/// A backend that keeps what each run commits.
#[derive(Default)]
struct Keeping {
    records: Mutex<HashMap<RunKey, Vec<u8>>>,
    commits: Mutex<Vec<usize>>,
    /// Probes that are left to be refused.
    refuses: Mutex<u32>,
}

impl ResultBackend for Keeping {
    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        let mut refuses = self.refuses.lock().unwrap();
        let answer = match refuses.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                *refuses = left;
                Err(not_taken(false))
            }
        };
        async { answer }.boxed()
    }

    fn store<'a>(&'a self, _: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        async { Ok(()) }.boxed()
    }

    fn tell<'a>(
        &'a self,
        _: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>> {
        self.store(meta)
    }

    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        let mut records = self.records.lock().unwrap();
        let earlier = records.get(end.run).filter(|_| !end.replaces).cloned();
        if earlier.is_none() {
            self.commits.lock().unwrap().push(end.results.len());
            records.insert(end.run.clone(), end.record.to_vec());
        }
        async move { Ok(earlier.and_then(Commit::read)) }.boxed()
    }

    fn committed<'a>(
        &'a self,
        run: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        let record = self.records.lock().unwrap().get(run).cloned();
        async move { Ok(record.and_then(Commit::read)) }.boxed()
    }

    fn fetch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        async { Ok(None) }.boxed()
    }
}

fn ending(key: &RunKey) -> Option<Ending<'_>> {
    Some(Ending {
        key,
        replaces: false,
    })
}

fn run() -> RunKey {
    let headers = serde_json::json!({"task": "a.b", "id": "a"});
    let message = Message {
        headers: headers.as_object().unwrap().clone(),
        ..Message::default()
    };
    RunKey::of(&message, "q").unwrap()
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

/// On its way into quarantine.
fn kept() -> Publication {
    to("next").kept("kept", "no such task")
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

fn failed() -> Ended {
    Ended::Failure {
        exception: Exception::new("builtins", "ValueError", "x"),
        traceback: None,
    }
}

fn policy() -> Policy {
    Policy {
        hostname: "w@h".to_owned(),
        origin: "1@h".to_owned(),
        routes: Routes::new("celery"),
        results: ResultMode::Stored,
        result_extended: false,
        quarantine: "kept".to_owned(),
        sent_limit: 256 << 20,
    }
}

fn servers(answers: Vec<PublishError>, results: Results) -> (Arc<Scripted>, Servers) {
    with_broker(
        Scripted {
            answers: Mutex::new(answers.into()),
            ..Scripted::default()
        },
        results,
    )
}

fn with_broker(broker: Scripted, results: Results) -> (Arc<Scripted>, Servers) {
    let broker = Arc::new(broker);
    let servers = Servers::new(
        Arc::clone(&broker) as Arc<dyn Broker>,
        results,
        policy(),
        Arc::default(),
    );
    (broker, servers)
}

/// A broker with a queue that never gets anything.
fn breaking(queue: &'static str, error: PublishError, wait: Duration) -> Scripted {
    Scripted {
        broken: Some((queue, error, wait)),
        ..Scripted::default()
    }
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
async fn a_cold_shutdown_ends_the_tries() {
    let (_, servers) = servers(vec![nacked(); 1000], Results::Disabled);
    let plan = plan(vec![to("next")], Ended::Success);
    let mut carrying = std::pin::pin!(servers.carry_out(&plan, None, Taken::default()));
    assert!(futures::poll!(carrying.as_mut()).is_pending());
    servers.shutdown.cold();
    let fault = carrying.await.unwrap_err();
    assert!(matches!(fault, Fault::ColdShutdown), "{fault}");
}

/// The result is stored after a while, and its callback can't be sent for the rest of the time, and is kept then.
#[tokio::test]
async fn a_plan_has_one_deadline_for_all_of_its_stages() {
    let (patience, waited) = (Duration::from_secs(2), Duration::from_millis(100));
    let unreached = breaking("next", PublishError::OutOfReach { waited }, waited);
    let backend = Results::Backend(Refusing::times(false, 6));
    let (broker, mut servers) = with_broker(unreached, backend);
    servers.patience = patience;
    let plan = with_result(plan(vec![to("next")], Ended::Success));
    let start = Instant::now();
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await;
    assert_eq!(carried.unwrap(), Carried::Out);
    assert!(start.elapsed() >= patience);
    // Five pauses have taken 1.55 s of the 2, and the sixth takes 1.6: a deadline of its own would have been for more.
    let (taken, asked) = seen(&broker);
    assert_eq!(taken, strings(&["kept"]));
    assert!(asked <= 3, "{asked}");
}
