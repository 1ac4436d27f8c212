//! Carrying a plan out: store, publish, await the confirms. It decides nothing but which trouble may pass.

mod patience;
mod publishing;
mod unsent;

use std::sync::Arc;
use std::time::Duration;

use petiole_broker::{Broker, PublishError};
use petiole_celery::plan::{Plan, Policy};
use petiole_celery::{Commit, Publication, RunKey, TaskMeta};
use petiole_permits::Backoff;
use petiole_runtime::Taken;
use petiole_storage::results::{End, ResultBackend, ResultError, Results};

pub(crate) use self::patience::PATIENCE;
use self::patience::{BACKOFF, Patience, or_cold};
use crate::causes::causes;
use crate::shutdown::Shutdown;
use crate::tell::outage::{Outage, Outages};

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
    #[error("cold shutdown")]
    ColdShutdown,
    #[error("the quarantine queue does not take it, and the worker is told to stop")]
    NotKept,
}

/// The fate of a plan.
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
    /// Set where what it has committed before does not count.
    pub(crate) replaces: bool,
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
    /// plan's [patience](Patience) is over: a message for another task is kept in the quarantine queue
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

    /// The commit of a run, on whichever worker. Asked for as long as it takes, whatever the backend says: nothing
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
        let mut backoff = BACKOFF;
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
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// True while the result backend is in trouble.
    pub(crate) fn takes_no_results(&self) -> bool {
        self.outages.results.lasts()
    }

    /// Asks a result backend in trouble whether it is over, for as long as it is polled: no task may come that does.
    pub(crate) async fn follow_results(&self, first: Duration) {
        let Results::Backend(backend) = &self.results else {
            return std::future::pending().await;
        };
        let mut backoff = Backoff::new(first, LONGEST_PROBE);
        loop {
            tokio::time::sleep(backoff.pause()).await;
            if self.outages.results.lasts() {
                self.probe(&**backend).await;
            } else {
                backoff.reset();
            }
        }
    }

    /// True where the backend takes what all runs give it.
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

    /// Begins the outage that a failure belongs to, which is logged once; false where it belongs to none.
    pub(crate) fn begins_outage(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Store(error) if !error.is_final() => self.outages.results.begins(error),
            Fault::Publish(error) if !error.is_final() => self.broker_outage.begins(error),
            Fault::Sandbox(_)
            | Fault::Store(_)
            | Fault::Publish(_)
            | Fault::ColdShutdown
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
}

fn not_stored(plan: &Plan, error: &ResultError) {
    for meta in &plan.results {
        tracing::error!(target: "petiole", "state {} of task {} is not stored: {}", meta.status.as_str(), meta.task_id, causes(error));
    }
}

#[cfg(test)]
mod tests;
