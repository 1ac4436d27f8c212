#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

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
async fn a_refused_callback_is_kept_at_once_and_the_others_go() {
    let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
    let plan = plan(vec![to("next"), to("other")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    assert_eq!(seen(&broker), (strings(&["other", "kept"]), 3));
}

#[tokio::test]
async fn passing_trouble_is_tried_again_for_the_one_it_hit() {
    let (broker, servers) = servers(vec![nacked(), refused(541)], Results::Disabled);
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    assert_eq!(seen(&broker), (strings(&["next"]), 3));
}

#[tokio::test]
async fn when_patience_is_over_what_is_left_is_kept() {
    let (broker, mut servers) = servers(vec![nacked(), nacked()], Results::Disabled);
    servers.patience = Duration::ZERO;
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    let (taken, asked) = seen(&broker);
    assert_eq!(taken, strings(&["kept"]));
    assert!(asked <= 3, "{asked}");
}

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

#[tokio::test]
async fn a_task_that_cannot_be_sent_on_is_given_up_with_the_brokers_words() {
    for ended in [retry(), Ended::Postponed] {
        let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
        let plan = plan(vec![to("next")], ended);
        match servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap()
        {
            Carried::GivenUp(reason) => assert!(reason.contains("the broker's words"), "{reason}"),
            carried => panic!("{carried:?}"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 1));
    }
}

#[tokio::test]
async fn a_result_that_is_refused_for_good_gives_the_plan_up_before_anything_is_sent() {
    for (is_final, patience) in [(true, PATIENCE), (false, Duration::ZERO)] {
        let backend = Results::Backend(Refusing::always(is_final));
        let (broker, mut servers) = servers(Vec::new(), backend);
        servers.patience = patience;
        let plan = with_result(plan(vec![to("next")], Ended::Success));
        match servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap()
        {
            Carried::GivenUp(reason) => assert!(reason.contains("NOPERM"), "{reason}"),
            carried => panic!("{carried:?}"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn a_message_is_kept_even_where_its_result_cannot_be_stored() {
    let backend = Results::Backend(Refusing::always(true));
    let (broker, servers) = servers(vec![unroutable()], backend);
    let plan = with_result(plan(vec![kept()], failed()));
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await
        .unwrap();
    assert_eq!(carried, Carried::Out);
    assert_eq!(seen(&broker).0, strings(&["kept"]));
    assert_eq!(*broker.declared.lock().unwrap(), strings(&["kept"]));
}

/// A callback may name the quarantine queue for its own.
#[tokio::test]
async fn a_message_for_the_quarantine_queue_is_kept_like_any_other() {
    let (broker, servers) = servers(vec![refused(406)], Results::Disabled);
    let plan = plan(vec![to("kept")], Ended::Success);
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await
        .unwrap();
    assert_eq!(carried, Carried::Out);
    assert_eq!(seen(&broker), (strings(&["kept"]), 2));
}

#[tokio::test]
async fn what_can_be_kept_nowhere_is_held_and_tried_again() {
    let (broker, refusing) = servers(vec![refused(403); 4], Results::Disabled);
    let keeping = plan(vec![kept()], failed());
    refusing
        .keep(&keeping, &run(), Taken::default())
        .await
        .unwrap();
    assert_eq!(seen(&broker), (strings(&["kept"]), 5));
}

/// REVOKED, say: nothing else tells of it, so its message is kept.
#[tokio::test]
async fn a_result_that_nothing_else_tells_of_gives_the_plan_up() {
    let backend = Results::Backend(Refusing::always(true));
    let (_, refusing) = servers(Vec::new(), backend);
    let nothing_kept = with_result(plan(Vec::new(), Ended::Revoked));
    let carried = refusing
        .carry_out(&nothing_kept, ending(&run()), Taken::default())
        .await;
    assert!(matches!(carried, Ok(Carried::GivenUp(_))));
}

#[tokio::test]
async fn a_reply_is_dropped_for_good_only_and_kept_where_trouble_might_have_passed() {
    let reply = Publication {
        mandatory: false,
        ..to("reader")
    };
    let table = [
        (refused(404), PATIENCE, Vec::new()),
        (nacked(), Duration::ZERO, strings(&["kept"])),
    ];
    for (answer, patience, taken) in table {
        // A task that is sent again has not failed for that.
        for ended in [Ended::Success, retry()] {
            let (broker, mut servers) = servers(vec![answer.clone()], Results::Reply);
            servers.patience = patience;
            let plan = plan(vec![reply.clone()], ended);
            let carried = servers
                .carry_out(&plan, None, Taken::default())
                .await
                .unwrap();
            assert_eq!((carried, seen(&broker).0), (Carried::Out, taken.clone()));
        }
    }
}

#[tokio::test]
async fn what_an_earlier_delivery_has_committed_is_carried_out_instead() {
    let backend = Arc::new(Keeping::default());
    let (broker, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    let run = run();
    let first = with_result(plan(vec![to("next")], Ended::Success));
    // Lost between the commit and the publishing.
    let record = Commit::of(&first).record(1);
    backend.records.lock().unwrap().insert(run.clone(), record);

    let second = with_result(plan(vec![to("other")], failed()));
    let Carried::Before(commit) = servers
        .carry_out(&second, ending(&run), Taken::default())
        .await
        .unwrap()
    else {
        panic!("carried out twice")
    };
    assert_eq!(seen(&broker).0, Vec::<String>::new());
    servers.carry_on(&commit, &run).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["next"]));

    // Everything is confirmed now: a third delivery sends nothing.
    let commit = servers.committed(&run).await.unwrap().unwrap();
    servers.carry_on(&commit, &run).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["next"]));
}

#[tokio::test]
async fn a_task_without_messages_is_committed_once_and_one_with_messages_is_marked_after_them() {
    let cases = [(Vec::new(), vec![1]), (vec![to("next")], vec![1, 0])];
    for (publications, commits) in cases {
        let backend = Arc::new(Keeping::default());
        let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
        let plan = with_result(plan(publications, Ended::Success));
        let carried = servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap();
        assert_eq!(carried, Carried::Out);
        assert_eq!(*backend.commits.lock().unwrap(), commits);
    }
}

#[tokio::test]
async fn a_plan_that_was_given_up_is_replaced_by_the_one_that_keeps_the_message() {
    let backend = Arc::new(Keeping::default());
    let (broker, servers) = servers(vec![refused(403)], Results::Backend(backend.clone()));
    let run = run();
    let retried = with_result(plan(vec![to("next")], retry()));
    let carried = servers
        .carry_out(&retried, ending(&run), Taken::default())
        .await
        .unwrap();
    assert!(matches!(carried, Carried::GivenUp(_)), "{carried:?}");
    let kept = with_result(plan(vec![kept()], failed()));
    servers.keep(&kept, &run, Taken::default()).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["kept"]));
    let commit = servers.committed(&run).await.unwrap().unwrap();
    assert_eq!((commit.publications.len(), commit.sends_itself), (0, false));
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

#[tokio::test]
async fn results_that_are_back_are_found_out_without_a_task() {
    let backend = Arc::new(Keeping::default());
    *backend.refuses.lock().unwrap() = 2;
    let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    servers.outages.results.begins(&not_taken(false));
    let back = async {
        while servers.outages.results.lasts() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = servers.follow_results(Duration::from_millis(1)) => {}
        () = back => {}
    }
    assert_eq!(*backend.refuses.lock().unwrap(), 0);
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

#[tokio::test]
async fn a_backend_that_answers_and_takes_nothing_is_waited_for() {
    let backend = Arc::new(Keeping::default());
    *backend.refuses.lock().unwrap() = 2;
    let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    servers.outages.results.begins(&not_taken(true));
    assert_eq!(servers.committed(&run()).await.unwrap(), None);
    assert_eq!(*backend.refuses.lock().unwrap(), 0);
    assert!(!servers.outages.results.lasts());
}

#[tokio::test]
async fn what_is_refused_for_good_is_trouble_where_others_are_refused_too() {
    let plan = with_result(plan(Vec::new(), Ended::Success));
    let (_, servers) = servers(Vec::new(), Results::Backend(Refusing::always(true)));
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await;
    assert!(matches!(carried, Ok(Carried::GivenUp(_))), "{carried:?}");
    assert!(servers.outages.results.lasts());
}

#[test]
fn a_message_is_made_smaller_as_far_as_its_broker_asks() {
    let invalid = || PublishError::Invalid {
        reason: "a content header of 9000 bytes".to_owned(),
    };
    let kept = kept();
    let enclosed = kept.enclosed().unwrap();
    let cut = kept.cut().unwrap();
    let table = [
        (&kept, invalid(), Some(enclosed.clone())),
        (&enclosed, invalid(), enclosed.cut()),
        (&kept, refused(406), Some(cut.clone())),
        (
            &kept,
            PublishError::TooLarge { size: 2, limit: 1 },
            Some(cut.clone()),
        ),
        (&cut, invalid(), None),
        (&kept, refused(403), None),
        (&kept, nacked(), None),
    ];
    for (publication, error, wanted) in table {
        assert_eq!(smaller(publication, &error), wanted, "{error}");
    }
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
