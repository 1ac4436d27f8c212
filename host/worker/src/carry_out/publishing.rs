//! Publishing the messages of a plan: again what may pass, and in quarantine what may not.

use std::borrow::Cow;

use futures::future::join_all;
use jiff::Timestamp;
use petiole_broker::PublishError;
use petiole_celery::plan::not_sent;
use petiole_celery::wire::is_direct_reply;
use petiole_celery::{Commit, Publication, RunKey};
use petiole_runtime::off_the_executor;
use petiole_storage::results::{End, Results};
use serde_json::Value;

use super::patience::{Patience, or_cold};
use super::unsent::{Unconfirmed, Unsent};
use super::{Carried, Fault, Servers, not_stored};
use crate::causes::causes;
use crate::shutdown::Stage;

/// The next step for a message that was not confirmed.
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

/// Messages that are published together.
struct Batch<'a> {
    commit: &'a Commit<'a>,
    run: Option<&'a RunKey>,
    /// Published after them.
    after: &'a [&'a Publication],
}

impl Servers {
    /// Publishes the messages, then the replies: whoever reads a reply may rely on the task's other messages.
    pub(super) async fn published(
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

    /// Publishes at once, and again what may pass. A message for the quarantine queue is tried until the worker is to
    /// stop: there is no other place for it.
    async fn all(
        &self,
        publications: Vec<&Publication>,
        batch: Batch<'_>,
        patience: &mut Patience,
    ) -> Result<Carried, Fault> {
        let publications = publications.into_iter().map(Cow::Borrowed);
        let mut left: Vec<_> = publications.map(Unconfirmed::of).collect();
        let (mut unsent, mut holding) = (Unsent::default(), None);
        loop {
            if let Some(reason) = self.round(left, &batch, &mut unsent, patience).await? {
                return Ok(Carried::GivenUp(reason));
            }
            if let Some((publication, error)) = unsent.next_to_keep() {
                let instead = self.instead_of(&publication, &error, patience).await?;
                left = instead.into_iter().map(Unconfirmed::standing_in).collect();
                continue;
            }
            if unsent.later.is_empty() {
                return Ok(Carried::Out);
            }
            if self.is_held(&unsent) {
                holding.get_or_insert_with(|| self.outages.quarantine.hold());
                self.commit_again(&batch, &mut unsent).await?;
                self.pause_unless_told(patience).await?;
            } else {
                patience.pause(&self.shutdown).await?;
            }
            left = std::mem::take(&mut unsent.later);
        }
    }

    /// Publishes each once, and sorts those that the broker has not taken; why the plan is given up, where it is.
    async fn round<'a>(
        &self,
        left: Vec<Unconfirmed<'a>>,
        batch: &Batch<'_>,
        unsent: &mut Unsent<'a>,
        patience: &Patience,
    ) -> Result<Option<String>, Fault> {
        let count = left.len();
        let not_taken = self.publish_each(left).await?;
        unsent.is_news |= not_taken.len() < count;
        for (mut one, error) in not_taken {
            one.note(&error);
            match self.next(&one, &error, batch.commit.sends_itself, patience) {
                Next::Again => {
                    self.begins_trouble(&one, &error);
                    unsent.later.push(one);
                }
                Next::KeepOtherwise => {
                    let publication = self.kept_otherwise(one.publication, error).await?;
                    unsent.later.push(Unconfirmed {
                        publication,
                        nacks: 0,
                        ..one
                    });
                }
                Next::Drop => {
                    unsent.is_news = true;
                    tracing::error!(target: "petiole", "reply not sent: {error}");
                }
                Next::GiveUp => return Ok(Some(error.to_string())),
                Next::Keep => {
                    if one.nacks > 0 {
                        // Its queue may or may not take others.
                        self.queue_outage.forget();
                    }
                    unsent.to_keep.push_back((one.publication, error));
                }
            }
        }
        Ok(None)
    }

    /// True while messages wait for whoever mends the quarantine queue.
    fn is_held(&self, unsent: &Unsent<'_>) -> bool {
        let kept = |one: &Unconfirmed<'_>| self.is_kept(&one.publication);
        self.outages.quarantine.lasts() && unsent.later.iter().any(kept)
    }

    /// Commits what is left of a run while some of it is held, if more is out than was the last time: who gets its message
    /// meanwhile, another worker or the next one, does not send the rest again. Where that can't be, it is tried again.
    async fn commit_again(&self, batch: &Batch<'_>, unsent: &mut Unsent<'_>) -> Result<(), Fault> {
        let (Results::Backend(backend), Some(run)) = (&self.results, batch.run) else {
            return Ok(());
        };
        if !unsent.is_news {
            return Ok(());
        }
        let after = batch.after.iter().copied();
        let left: Vec<_> = unsent.publications().chain(after).cloned().collect();
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
        match or_cold(&self.shutdown, backend.commit(end)).await? {
            Ok(_) => unsent.is_news = false,
            Err(error) => {
                tracing::debug!(target: "petiole", "what is left of run {run} is not stored: {}", causes(&error));
            }
        }
        Ok(())
    }

    /// Begins the outage that a failure to publish belongs to.
    fn begins_trouble(&self, one: &Unconfirmed<'_>, error: &PublishError) {
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
        left: Vec<Unconfirmed<'a>>,
    ) -> Result<Vec<(Unconfirmed<'a>, PublishError)>, Fault> {
        let publishing = left
            .iter()
            .map(|one| self.broker.publish(Publication::clone(&one.publication)));
        let answers = or_cold(&self.shutdown, join_all(publishing)).await?;
        let mut not_taken = Vec::new();
        for (one, answer) in left.into_iter().zip(answers) {
            match answer {
                Ok(()) => self.ends_trouble(&one),
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

    /// The next step for a message that was not confirmed.
    fn next(
        &self,
        one: &Unconfirmed<'_>,
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
        // Somebody may have deleted it, or have taken its exchange's permission away and given it back.
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
        let plan = off_the_executor(true, || {
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

    /// Ends the outages that a message shows to be over, which the broker has taken.
    fn ends_trouble(&self, one: &Unconfirmed<'_>) {
        self.broker_outage.ends();
        if self.is_kept(&one.publication) {
            self.outages.quarantine.ends();
        } else if one.nacks > 0 {
            self.queue_outage.ends();
        }
    }

    /// True of a message on its way to the quarantine queue.
    pub(super) fn is_kept(&self, publication: &Publication) -> bool {
        let to = &publication.destination;
        publication.message.is_kept()
            && to.exchange.is_empty()
            && to.routing_key == self.policy.quarantine
    }
}

/// A form of a message on its way to quarantine that its broker may take, where it may be its size that is refused: in an
/// envelope where its properties and headers are over the connection's frames, else its beginning. RabbitMQ says of a body
/// over its `max_message_size` 406 (precondition-failed), AMQP knows 311 (content-too-large).
pub(super) fn smaller(publication: &Publication, error: &PublishError) -> Option<Publication> {
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
