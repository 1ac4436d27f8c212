//! Carrying a plan out: store, publish, await the confirms. It decides nothing but which trouble may pass.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use petiole_broker::{Broker, PublishError, Unsettled};
use petiole_celery::plan::{Plan, Policy, not_sent};
use petiole_celery::wire::is_direct_reply;
use petiole_celery::{Commit, Publication, RunKey, TaskMeta};
use petiole_results::{End, ResultBackend, ResultError, Results};
use petiole_runtime::{Taken, unpaused};
use serde_json::Value;
use tokio::time::Instant;

use crate::causes::causes;
use crate::outage::{Outage, Outages};
use crate::shutdown::{Shutdown, Stage};

/// How long a plan is tried in all, while a broker or a result backend is in trouble that may pass. Half of
/// RabbitMQ's default `consumer_timeout` (30 min). An answer that is awaited is not cut off by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often a plan is tried again in all; its pauses alone take some 12 minutes then.
const TRIES: u32 = 150;
/// How often a message is tried that the broker itself does not take (`basic.nack`): a queue that is full, for one, or
/// that is on a node which restarts. It takes two minutes.
const NACKS: u32 = 30;
/// The same of one for an exchange, whose other queues get it each time: it takes 11 s.
const NACKS_OF_EXCHANGE: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pauses between two questions to a result backend in trouble, whether there are tasks or not: doubled from the first
/// to the longest.
pub(crate) const FIRST_PROBE: Duration = Duration::from_secs(5);
const LONGEST_PROBE: Duration = Duration::from_secs(60);

/// A fault of the host: the delivery stays unsettled, and the broker delivers it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the task was not run")]
    Sandbox(#[from] petiole_runtime::HostFault),
    #[error("result not stored")]
    Store(#[from] ResultError),
    #[error("message not confirmed")]
    Publish(#[from] PublishError),
    #[error("not settled")]
    Settle(#[from] Unsettled),
    #[error("cold shutdown")]
    ColdShutdown,
    #[error("its connection is gone, or the worker is told to stop")]
    NotBegun,
    #[error("the quarantine queue does not take it, and the worker is told to stop")]
    NotKept,
}

/// What became of a plan.
#[derive(Debug, PartialEq)]
pub(crate) enum Carried {
    /// Everything it says is with its server.
    Out,
    /// The task can't be brought to the end that the plan has for it, for this reason.
    GivenUp(String),
    /// Nothing: an earlier delivery of the run has committed this.
    Before(Commit<'static>),
}

/// The run that a plan ends.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) key: &'a RunKey,
    /// What it has committed before does not count.
    pub(crate) replaces: bool,
}

/// What is to be done about a message that was not confirmed.
enum Next {
    /// The same again, after a pause.
    Again,
    /// It is on its way to quarantine, and refused there.
    KeepOtherwise,
    /// It is a reply that nobody gets.
    Drop,
    /// The task itself can't be sent on.
    GiveUp,
    /// It goes to quarantine.
    Keep,
}

/// What a plan's messages are sent for.
#[derive(Clone, Copy)]
struct Batch<'a> {
    commit: &'a Commit<'a>,
    run: Option<&'a RunKey>,
    /// Sent after them.
    after: &'a [&'a Publication],
}

/// A message that is not confirmed yet.
struct Left<'a> {
    publication: Cow<'a, Publication>,
    nacks: u32,
    /// Published instead of another one.
    stands_in: bool,
}

impl<'a> Left<'a> {
    fn of(publication: Cow<'a, Publication>) -> Self {
        Self {
            publication,
            nacks: 0,
            stands_in: false,
        }
    }

    fn standing_in(publication: Publication) -> Self {
        Self {
            stands_in: true,
            ..Self::of(Cow::Owned(publication))
        }
    }

    fn note(&mut self, error: &PublishError) {
        if let PublishError::Nacked { .. } = error {
            self.nacks += 1;
        }
    }

    fn is_nacked_too_often(&self) -> bool {
        let has_exchange = !self.publication.destination.exchange.is_empty();
        let most = if has_exchange {
            NACKS_OF_EXCHANGE
        } else {
            NACKS
        };
        self.nacks >= most
    }
}

/// The tries that are left to a plan.
struct Patience {
    deadline: Instant,
    tries: u32,
    pause: Duration,
}

impl Patience {
    fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            tries: 0,
            pause: FIRST_PAUSE,
        }
    }

    fn is_over(&self) -> bool {
        self.tries >= TRIES || Instant::now() >= self.deadline
    }

    /// Waits before the next try, unless the shutdown is cold.
    async fn pause(&mut self, shutdown: &Shutdown) -> Result<(), Fault> {
        or_cold(shutdown, tokio::time::sleep(self.next_pause())).await
    }

    fn next_pause(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

async fn or_cold<T>(shutdown: &Shutdown, doing: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        done = doing => Ok(done),
        () = shutdown.reached(Stage::Cold) => Err(Fault::ColdShutdown),
    }
}

/// The servers that plans are carried out with.
pub(crate) struct Servers {
    broker: Arc<dyn Broker>,
    results: Results,
    pub(crate) policy: Policy,
    pub(crate) shutdown: Shutdown,
    patience: Duration,
    broker_outage: Outage,
    queue_outage: Outage,
    outages: Arc<Outages>,
}

impl Servers {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        results: Results,
        policy: Policy,
        outages: Arc<Outages>,
    ) -> Self {
        Self {
            broker,
            results,
            policy,
            shutdown: Shutdown::new(),
            patience: PATIENCE,
            broker_outage: Outage::of("the broker"),
            queue_outage: Outage::of("a queue"),
            outages,
        }
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Commits and publishes. What a server refuses for good is given up at once, what may pass when the
    /// plan's [`PATIENCE`] or [`TRIES`] are over: a message for another task is kept in the quarantine queue
    /// instead; where a result can't be stored, or the task itself can't be sent on, the plan is given up. One that
    /// keeps its message goes on without its results: the message says more.
    /// `room`: the plan's. It is kept until all is out; where the plan only keeps the message that came, until it is
    /// committed.
    pub(crate) async fn carry_out(
        &self,
        plan: &Plan,
        run: Option<Ending<'_>>,
        room: Taken,
    ) -> Result<Carried, Fault> {
        let mut patience = Patience::new(self.patience);
        let committed = self.committed_as(plan, run, &mut patience).await?;
        let _room = self.room_to_publish(plan, room);
        match committed {
            Ok(None) => {}
            Ok(Some(earlier)) => return Ok(Carried::Before(earlier)),
            Err(error) if plan.publications.iter().any(|one| self.is_kept(one)) => {
                not_stored(plan, &error);
            }
            Err(error) => return Ok(Carried::GivenUp(causes(&error))),
        }
        self.finish(&Commit::of(plan), run.map(|run| run.key), patience)
            .await
    }

    /// Carries out what is left of a run that was committed before.
    pub(crate) async fn carry_on(
        &self,
        commit: &Commit<'_>,
        run: &RunKey,
    ) -> Result<Carried, Fault> {
        let patience = Patience::new(self.patience);
        self.finish(commit, Some(run), patience).await
    }

    /// Carries out the plan that keeps a message whose own plan was given up, after all its tries: each step once, but
    /// for what goes to the quarantine queue. Where that can't be kept either, nothing is settled. `room`: as
    /// [`carry_out`](Self::carry_out) has it.
    pub(crate) async fn keep(&self, plan: &Plan, key: &RunKey, room: Taken) -> Result<(), Fault> {
        let mut patience = Patience::new(Duration::ZERO);
        let run = Ending {
            key,
            replaces: true,
        };
        if let Err(error) = self.committed_as(plan, Some(run), &mut patience).await? {
            not_stored(plan, &error);
        }
        let _room = self.room_to_publish(plan, room);
        self.finish(&Commit::of(plan), Some(key), patience)
            .await
            .map(drop)
    }

    /// The room that a plan keeps once it is committed. One that only keeps the message that came needs none: the message has
    /// its own, and may be held for as long as the quarantine queue refuses it.
    fn room_to_publish(&self, plan: &Plan, room: Taken) -> Option<Taken> {
        let only_keeps =
            plan.publications.len() <= 1 && plan.publications.iter().all(|one| self.is_kept(one));
        Some(room).filter(|_| !only_keeps)
    }

    /// What a run has committed, on whichever worker. Asked for as long as it takes, whatever the backend says: nothing
    /// has happened yet, and whoever mends it (a password, a permission) finds the queue as it was. A backend in trouble may
    /// answer questions and take nothing: then it is [tried](ResultBackend::probe) too.
    ///
    /// # Errors
    /// Where what it has is no record.
    pub(crate) async fn committed(
        &self,
        run: &RunKey,
    ) -> Result<Option<Commit<'static>>, ResultError> {
        let Results::Backend(backend) = &self.results else {
            return Ok(None);
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match backend.committed(run).await {
                Ok(committed) if !self.outages.results.lasts() => return Ok(committed),
                Ok(committed) => {
                    if self.probe(&**backend).await {
                        return Ok(committed);
                    }
                }
                Err(error @ ResultError::CorruptRecord { .. }) => return Err(error),
                Err(error) => self.outages.results.begins(&error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether the result backend is in trouble.
    pub(crate) fn takes_no_results(&self) -> bool {
        self.outages.results.lasts()
    }

    /// Asks a result backend in trouble whether it is over, for as long as it is polled: no task may come that does.
    pub(crate) async fn follow_results(&self, first: Duration) {
        let Results::Backend(backend) = &self.results else {
            return std::future::pending().await;
        };
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            if !self.outages.results.lasts() {
                pause = first;
                continue;
            }
            self.probe(&**backend).await;
            pause = (pause * 2).min(LONGEST_PROBE);
        }
    }

    /// Whether the backend takes what all runs give it.
    async fn probe(&self, backend: &dyn ResultBackend) -> bool {
        let probed = backend.probe().await;
        match &probed {
            Ok(()) => self.outages.results.ends(),
            Err(error) => self.outages.results.begins(error),
        }
        probed.is_ok()
    }

    /// Stores a state of a task that still runs, once: one that is not the last may be lost.
    pub(crate) async fn tell(
        &self,
        run: Option<&RunKey>,
        results: &[TaskMeta],
        replies: &[Publication],
    ) -> Result<(), Fault> {
        for meta in results {
            match (&self.results, run) {
                (Results::Backend(backend), Some(run)) => backend.tell(run, meta).await?,
                _ => self.store(meta).await?,
            }
        }
        for reply in replies {
            self.broker.publish(reply.clone()).await?;
        }
        Ok(())
    }

    /// Begins the outage that a failure belongs to, which is told of once; false where it belongs to none.
    pub(crate) fn begins_outage(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Store(error) if !error.is_final() => self.outages.results.begins(error),
            Fault::Publish(error) if !error.is_final() => self.broker_outage.begins(error),
            Fault::Sandbox(_)
            | Fault::Store(_)
            | Fault::Publish(_)
            | Fault::Settle(_)
            | Fault::ColdShutdown
            | Fault::NotBegun
            | Fault::NotKept => return false,
        }
        true
    }

    async fn store(&self, meta: &TaskMeta) -> Result<(), ResultError> {
        match &self.results {
            Results::Backend(backend) => backend.store(meta).await,
            Results::Reply | Results::Disabled => Ok(()),
        }
    }

    /// Commits a run's end, or stores the results of a plan that ends none.
    async fn commit(
        &self,
        plan: &Plan,
        end: Option<End<'_>>,
    ) -> Result<Option<Commit<'static>>, ResultError> {
        if let (Results::Backend(backend), Some(end)) = (&self.results, end) {
            return backend.commit(end).await;
        }
        for meta in &plan.results {
            self.store(meta).await?;
        }
        Ok(None)
    }

    /// Commits, as long as trouble may pass; the inner error is what it is given up for, the inner answer what the run
    /// has committed before.
    async fn committed_as(
        &self,
        plan: &Plan,
        run: Option<Ending<'_>>,
        patience: &mut Patience,
    ) -> Result<Result<Option<Commit<'static>>, ResultError>, Fault> {
        let run = run.filter(|_| self.results.backend().is_some());
        let record = run.map(|_| Commit::of(plan).record(fastrand::u64(..)));
        let end = run.zip(record.as_deref()).map(|(run, record)| End {
            run: run.key,
            record,
            results: &plan.results,
            replaces: run.replaces,
        });
        loop {
            let error = match or_cold(&self.shutdown, self.commit(plan, end)).await? {
                Ok(earlier) => {
                    self.outages.results.ends();
                    return Ok(Ok(earlier));
                }
                Err(error) => error,
            };
            if error.is_final() {
                self.probe_after_refusal().await?;
                return Ok(Err(error));
            }
            self.outages.results.begins(&error);
            if patience.is_over() {
                return Ok(Err(error));
            }
            patience.pause(&self.shutdown).await?;
        }
    }

    /// The backend has refused something for good: finds out whether it is this alone, or the others' too.
    async fn probe_after_refusal(&self) -> Result<(), Fault> {
        if let Results::Backend(backend) = &self.results {
            or_cold(&self.shutdown, self.probe(&**backend)).await?;
        }
        Ok(())
    }

    /// Publishes what is left, and marks the run as done.
    async fn finish(
        &self,
        commit: &Commit<'_>,
        run: Option<&RunKey>,
        mut patience: Patience,
    ) -> Result<Carried, Fault> {
        let carried = self.published(commit, run, &mut patience).await?;
        if let (Carried::Out, Results::Backend(backend), Some(run)) = (&carried, &self.results, run)
            && !commit.publications.is_empty()
        {
            let done = End {
                run,
                record: &Commit::done(commit.settle).record(0),
                results: &[],
                replaces: true,
            };
            // Worth one try: without the mark all is sent again, where the message comes again.
            match or_cold(&self.shutdown, backend.commit(done)).await {
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::warn!(target: "petiole", "run {run} is not marked as done: {}", causes(&error));
                }
            }
        }
        Ok(carried)
    }

    /// Publishes the messages, then the replies: whoever reads a reply may rely on the task's other messages.
    async fn published(
        &self,
        commit: &Commit<'_>,
        run: Option<&RunKey>,
        patience: &mut Patience,
    ) -> Result<Carried, Fault> {
        let (messages, replies): (Vec<_>, Vec<_>) =
            commit.publications.iter().partition(|one| one.mandatory);
        let phases = [(messages, replies.clone()), (replies, Vec::new())];
        for (together, after) in phases {
            let batch = Batch {
                commit,
                run,
                after: &after,
            };
            let carried = self.all(together, batch, patience).await?;
            if carried != Carried::Out {
                return Ok(carried);
            }
        }
        Ok(Carried::Out)
    }

    /// Publishes at once, and again what may pass. What goes to the quarantine queue is tried until the worker is told to
    /// stop: there is no other place for it. Refused messages are replaced one at a time: what replaces one may be much
    /// larger than it.
    async fn all(
        &self,
        publications: Vec<&Publication>,
        batch: Batch<'_>,
        patience: &mut Patience,
    ) -> Result<Carried, Fault> {
        let publications = publications.into_iter().map(Cow::Borrowed);
        let mut left: Vec<_> = publications.map(Left::of).collect();
        let (mut later, mut to_keep) = (Vec::new(), VecDeque::new());
        // Whether more is out than was when the run was committed the last time.
        let (mut is_news, mut holding) = (false, None);
        loop {
            let count = left.len();
            let not_taken = self.publish_each(left).await?;
            is_news |= not_taken.len() < count;
            for (mut one, error) in not_taken {
                one.note(&error);
                match self.next(&one, &error, batch.commit.sends_itself, patience) {
                    Next::Again => {
                        self.begins_trouble(&one, &error);
                        later.push(one);
                    }
                    Next::KeepOtherwise => {
                        let kept = self.kept_otherwise(one.publication, error).await?;
                        later.push(Left {
                            publication: kept,
                            nacks: 0,
                            ..one
                        });
                    }
                    Next::Drop => {
                        is_news = true;
                        tracing::error!(target: "petiole", "reply not sent: {error}");
                    }
                    Next::GiveUp => return Ok(Carried::GivenUp(error.to_string())),
                    Next::Keep => {
                        self.is_not_tried_any_more(&one);
                        to_keep.push_back((one.publication, error));
                    }
                }
            }
            if !later.iter().any(|one| one.stands_in)
                && let Some((publication, error)) = to_keep.pop_front()
            {
                let instead = self.instead_of(&publication, &error, patience).await?;
                left = instead.into_iter().map(Left::standing_in).collect();
                is_news = true;
                continue;
            }
            if later.is_empty() {
                return Ok(Carried::Out);
            }
            if self.outages.quarantine.lasts()
                && later.iter().any(|one| self.is_kept(&one.publication))
            {
                holding.get_or_insert_with(|| self.outages.quarantine.hold());
                if is_news {
                    let waits = to_keep.iter().map(|(publication, _)| &**publication);
                    let held = later.iter().map(|one| &*one.publication).chain(waits);
                    is_news = !self.commit_again(&batch, held).await?;
                }
                self.pause_unless_told(patience).await?;
            } else {
                patience.pause(&self.shutdown).await?;
            }
            left = std::mem::take(&mut later);
        }
    }

    /// Commits what is left of a run while some of it is held: who gets its message meanwhile, another worker or the next
    /// one, does not send the rest again. False where that could not be.
    async fn commit_again<'a>(
        &self,
        batch: &Batch<'_>,
        held: impl Iterator<Item = &'a Publication>,
    ) -> Result<bool, Fault> {
        let (Results::Backend(backend), Some(run)) = (&self.results, batch.run) else {
            return Ok(true);
        };
        let after = batch.after.iter().copied().cloned();
        let left: Vec<_> = held.cloned().chain(after).collect();
        let commit = Commit {
            publications: left.into(),
            ..*batch.commit
        };
        let end = End {
            run,
            record: &commit.record(fastrand::u64(..)),
            results: &[],
            replaces: true,
        };
        let committed = or_cold(&self.shutdown, backend.commit(end)).await?;
        if let Err(error) = &committed {
            tracing::debug!(target: "petiole", "what is left of run {run} is not stored: {}", causes(error));
        }
        Ok(committed.is_ok())
    }

    /// Begins the outage that a failure to publish belongs to.
    fn begins_trouble(&self, one: &Left<'_>, error: &PublishError) {
        let outage = match error {
            PublishError::Nacked { .. } if self.is_kept(&one.publication) => {
                &self.outages.quarantine
            }
            PublishError::Nacked { .. } => &self.queue_outage,
            _ => &self.broker_outage,
        };
        outage.begins(error);
    }

    /// Publishes each once: those that the broker has not taken, with its answers.
    async fn publish_each<'a>(
        &self,
        left: Vec<Left<'a>>,
    ) -> Result<Vec<(Left<'a>, PublishError)>, Fault> {
        let publishing = left
            .iter()
            .map(|one| self.broker.publish(Publication::clone(&one.publication)));
        let answers = or_cold(&self.shutdown, join_all(publishing)).await?;
        let mut not_taken = Vec::new();
        for (one, answer) in left.into_iter().zip(answers) {
            match answer {
                Ok(()) => self.is_taken(&one),
                Err(error) => not_taken.push((one, error)),
            }
        }
        Ok(not_taken)
    }

    /// Waits for whoever mends the quarantine queue, as long as the worker is not told to stop.
    async fn pause_unless_told(&self, patience: &mut Patience) -> Result<(), Fault> {
        tokio::select! {
            biased;
            paused = patience.pause(&self.shutdown) => paused,
            () = self.shutdown.reached(Stage::Warm) => Err(Fault::NotKept),
        }
    }

    /// What is to be done about a message that was not confirmed.
    fn next(
        &self,
        one: &Left<'_>,
        error: &PublishError,
        sends_itself: bool,
        patience: &Patience,
    ) -> Next {
        let publication = &*one.publication;
        let kept = self.is_kept(publication);
        let refused = error.is_final() || goes_once(publication);
        match (refused, kept) {
            (false, true) => Next::Again,
            (false, false) if !patience.is_over() && !one.is_nacked_too_often() => Next::Again,
            (true, true) => Next::KeepOtherwise,
            (true, false) if !publication.mandatory => Next::Drop,
            // The task is on its way: a reply about it is not.
            (_, false) if sends_itself && publication.mandatory => Next::GiveUp,
            (_, false) => Next::Keep,
        }
    }

    /// A message on its way to quarantine that its broker refuses: a smaller form of it, where it may be too large; else
    /// the same, which the worker holds until somebody has mended the queue.
    async fn kept_otherwise<'a>(
        &self,
        publication: Cow<'a, Publication>,
        error: PublishError,
    ) -> Result<Cow<'a, Publication>, Fault> {
        let queue = &self.policy.quarantine;
        // Where somebody has deleted it, or has taken its exchange's permission away and given it back.
        let declared = or_cold(&self.shutdown, self.broker.declare(queue)).await?;
        if declared.is_ok() && matches!(error, PublishError::Unroutable { .. }) {
            return Ok(publication);
        }
        let Some(smaller) = smaller(&publication, &error) else {
            // Given back to a quorum queue it would count as lost, and be dropped at last.
            self.outages.quarantine.begins(&error);
            return Ok(publication);
        };
        tracing::error!(target: "petiole", "a message is made smaller to be kept in queue {queue}: {error}");
        Ok(Cow::Owned(smaller))
    }

    /// Tells of a message for another task that can't be sent; what is published instead.
    async fn instead_of(
        &self,
        publication: &Publication,
        error: &PublishError,
        patience: &mut Patience,
    ) -> Result<Vec<Publication>, Fault> {
        let header = |name| {
            let text = publication.message.headers.get(name);
            text.and_then(Value::as_str).unwrap_or("?")
        };
        let (task, id, queue) = (header("task"), header("id"), &self.policy.quarantine);
        tracing::error!(target: "petiole", task, id, "Task {task}[{id}] can't be sent, and its message goes to queue {queue}: {error}");
        let plan = unpaused(true, || {
            not_sent(
                publication,
                error.to_string(),
                &self.policy,
                Timestamp::now(),
            )
        });
        if let Err(error) = self.committed_as(&plan, None, patience).await? {
            not_stored(&plan, &error);
        }
        Ok(plan.publications)
    }

    /// The broker has taken a message.
    fn is_taken(&self, one: &Left<'_>) {
        self.broker_outage.ends();
        if self.is_kept(&one.publication) {
            self.outages.quarantine.ends();
        } else if one.nacks > 0 {
            self.queue_outage.ends();
        }
    }

    /// A message is kept instead.
    fn is_not_tried_any_more(&self, one: &Left<'_>) {
        if one.nacks > 0 {
            self.queue_outage.forget();
        }
    }

    /// Whether a message is on its way to the quarantine queue.
    fn is_kept(&self, publication: &Publication) -> bool {
        let to = &publication.destination;
        publication.message.is_kept()
            && to.exchange.is_empty()
            && to.routing_key == self.policy.quarantine
    }
}

/// A form of a message on its way to quarantine that its broker may take, where it may be its size that is refused: in an
/// envelope where its properties and headers are over the connection's frames, else its beginning. RabbitMQ says of a body
/// over its `max_message_size` 406 (precondition-failed), AMQP knows 311 (content-too-large).
fn smaller(publication: &Publication, error: &PublishError) -> Option<Publication> {
    match error {
        PublishError::Invalid { .. } => publication.enclosed().or_else(|| publication.cut()),
        PublishError::TooLarge { .. } => publication.cut(),
        PublishError::Refused { answer, .. } if matches!(answer.code, 311 | 406) => {
            publication.cut()
        }
        _ => None,
    }
}

/// RabbitMQ ends the connection over a reply by a direct reply-to that it can't read, each time that it comes.
fn goes_once(publication: &Publication) -> bool {
    !publication.mandatory && is_direct_reply(&publication.destination)
}

fn not_stored(plan: &Plan, error: &ResultError) {
    for meta in &plan.results {
        tracing::error!(target: "petiole", "state {} of task {} is not stored: {}", meta.status.as_str(), meta.task_id, causes(error));
    }
}

#[cfg(test)]
mod tests;
