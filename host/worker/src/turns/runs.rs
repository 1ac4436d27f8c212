use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;
use petiole_celery::RunKey;
use petiole_celery::plan::Settle;
use tokio::sync::OwnedMutexGuard;

/// Runs that are remembered whose ack may not have reached the broker. They come again as soon as
/// the connection is back, so what counts is one prefetch of messages.
const REMEMBERED: usize = 16 * 1024;

/// The runs that are under way in this process, or have ended but were not acked. After a lost
/// connection the broker delivers a message again while its first delivery still runs here; the second
/// one waits for the first, and is settled as it was, without another run.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    open: Mutex<HashMap<RunKey, Weak<Run>>>,
    unacked: Mutex<VecDeque<(RunKey, Arc<Run>)>>,
}

type Run = tokio::sync::Mutex<Option<Remembered>>;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    before: Before,
    /// The time at which a run comes again that was put off, and so has not come to an end.
    until: Option<Timestamp>,
}

/// The fate of an earlier delivery of a request, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It was carried out, and is settled so.
    Settled(Settle),
    /// The task has ended, and what follows could not be carried out: it must not run again.
    Ended,
}

/// The right to run a request: one delivery at a time has it.
pub(crate) struct Turn<'a> {
    runs: &'a Runs,
    key: RunKey,
    /// Some until dropped.
    run: Option<Arc<Run>>,
    /// Set where what the run has committed before does not count.
    pub(crate) replaces: bool,
    /// The time at which the run comes again, where it was put off.
    pub(crate) postponed: Option<Timestamp>,
    /// None until it is this one's turn.
    before: Option<OwnedMutexGuard<Option<Remembered>>>,
}

impl Runs {
    /// Waits until no other delivery of the run is under way.
    pub(crate) async fn turn(&self, key: RunKey) -> Turn<'_> {
        let run = self.open(&key);
        // Whoever stops waiting leaves as whoever had its turn does.
        let mut turn = Turn {
            runs: self,
            key,
            run: Some(Arc::clone(&run)),
            replaces: false,
            postponed: None,
            before: None,
        };
        turn.before = Some(run.lock_owned().await);
        turn
    }

    fn open(&self, key: &RunKey) -> Arc<Run> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = open.get(key).and_then(Weak::upgrade) {
            return run;
        }
        let run = Arc::default();
        open.insert(key.clone(), Arc::downgrade(&run));
        run
    }

    fn remember(&self, key: RunKey, run: Arc<Run>) {
        let mut unacked = self.unacked.lock().unwrap_or_else(PoisonError::into_inner);
        unacked.push_back((key, run));
        if unacked.len() > REMEMBERED
            && let Some((key, run)) = unacked.pop_front()
        {
            self.close(&key, run);
        }
    }

    /// Forgets a run that nobody else holds. Of two that let go of it at once, one is the last.
    fn close(&self, key: &RunKey, run: Arc<Run>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::into_inner(run).is_some() {
            open.remove(key);
        }
    }
}

impl Turn<'_> {
    pub(crate) fn key(&self) -> &RunKey {
        &self.key
    }

    /// The fate of another delivery of the request, where it came to an end before, as far as that counts `now`.
    pub(crate) fn before(&self, now: Timestamp) -> Option<Before> {
        let remembered = self.remembered();
        let counts = |one: &Remembered| one.until.is_none_or(|until| now < until);
        remembered.filter(counts).map(|one| one.before)
    }

    fn remembered(&self) -> Option<Remembered> {
        self.before.as_deref().copied().flatten()
    }

    /// Everything is out and settled: a delivery of the same run that waits is settled likewise. What was remembered
    /// of the run has served: another message may have the same id.
    pub(crate) fn done(mut self, settle: Settle) {
        let remembered = self.remembered().is_some();
        self.set((!remembered).then_some(Before::Settled(settle)));
    }

    /// Everything is out, but the delivery could not be settled: the next one of this request will be,
    /// without a run.
    pub(crate) fn unacked(mut self, settle: Settle) {
        self.remember(Before::Settled(settle));
    }

    /// The task has ended, and what follows could not be carried out: the next delivery of this request is
    /// kept, without a run.
    pub(crate) fn not_carried_out(&mut self) {
        self.remember(Before::Ended);
    }

    fn remember(&mut self, what: Before) {
        self.set(Some(what));
        if let Some(run) = &self.run {
            self.runs.remember(self.key.clone(), Arc::clone(run));
        }
    }

    fn set(&mut self, what: Option<Before>) {
        let until = self.postponed;
        if let Some(remembered) = self.before.as_deref_mut() {
            *remembered = what.map(|before| Remembered { before, until });
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.before = None;
        if let Some(run) = self.run.take() {
            self.runs.close(&self.key, run);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use jiff::SignedDuration;
    use petiole_celery::Message;
    use serde_json::json;

    use super::*;

    fn key(id: &str) -> RunKey {
        let headers = json!({"task": "my_app.tasks.run_task", "id": id});
        let message = Message {
            headers: headers.as_object().unwrap().clone(),
            ..Message::default()
        };
        RunKey::of(&message, "q").unwrap()
    }

    #[tokio::test]
    async fn a_second_delivery_waits_for_the_first_and_is_settled_like_it() {
        let runs = Runs::default();
        let key = key("a");
        let first = runs.turn(key.clone()).await;
        assert_eq!(first.before(Timestamp::now()), None);
        let mut second = std::pin::pin!(runs.turn(key.clone()));
        assert!(futures::poll!(second.as_mut()).is_pending());
        first.done(Settle::Ack);
        assert_eq!(
            second.await.before(Timestamp::now()),
            Some(Before::Settled(Settle::Ack))
        );
    }

    #[tokio::test]
    async fn a_run_that_failed_is_left_to_the_next_delivery() {
        let runs = Runs::default();
        let key = key("a");
        let first = runs.turn(key.clone()).await;
        let mut second = std::pin::pin!(runs.turn(key.clone()));
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(second.await.before(Timestamp::now()), None);
    }

    #[tokio::test]
    async fn a_run_whose_ack_was_lost_is_not_repeated() {
        let runs = Runs::default();
        let key = key("a");
        runs.turn(key.clone()).await.unacked(Settle::Ack);
        assert_eq!(
            runs.turn(key.clone()).await.before(Timestamp::now()),
            Some(Before::Settled(Settle::Ack))
        );
    }

    #[tokio::test]
    async fn a_run_that_was_put_off_is_not_settled_for_ever() {
        let (runs, key, until) = (Runs::default(), key("a"), Timestamp::now());
        let mut turn = runs.turn(key.clone()).await;
        turn.postponed = Some(until);
        turn.unacked(Settle::Ack);
        let again = runs.turn(key).await;
        let earlier = until - SignedDuration::from_secs(1);
        let settled = Some(Before::Settled(Settle::Ack));
        assert_eq!(
            (again.before(earlier), again.before(until)),
            (settled, None)
        );
    }

    #[tokio::test]
    async fn what_was_remembered_serves_once() {
        let runs = Runs::default();
        let key = key("a");
        runs.turn(key.clone()).await.unacked(Settle::Reject);
        let again = runs.turn(key.clone()).await;
        assert_eq!(
            again.before(Timestamp::now()),
            Some(Before::Settled(Settle::Reject))
        );
        again.done(Settle::Reject);
        assert_eq!(runs.turn(key.clone()).await.before(Timestamp::now()), None);
    }

    #[tokio::test]
    async fn a_task_that_has_ended_is_not_run_again() {
        let runs = Runs::default();
        let key = key("a");
        runs.turn(key.clone()).await.not_carried_out();
        assert_eq!(
            runs.turn(key.clone()).await.before(Timestamp::now()),
            Some(Before::Ended)
        );
    }

    #[tokio::test]
    async fn nothing_is_kept_of_who_stopped_waiting() {
        let runs = Runs::default();
        let first = runs.turn(key("a")).await;
        {
            let mut second = std::pin::pin!(runs.turn(key("a")));
            assert!(futures::poll!(second.as_mut()).is_pending());
            first.done(Settle::Ack);
        }
        assert_eq!(runs.open.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_runs_that_were_settled() {
        let runs = Runs::default();
        for n in 0..100 {
            runs.turn(key(&n.to_string())).await.done(Settle::Ack);
        }
        assert_eq!(runs.open.lock().unwrap().len(), 0);
        for n in 0..REMEMBERED + 10 {
            runs.turn(key(&n.to_string())).await.unacked(Settle::Ack);
        }
        assert_eq!(runs.open.lock().unwrap().len(), REMEMBERED);
    }
}
