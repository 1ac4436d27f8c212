//! Trouble of a server that may pass.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::causes::causes;

/// Time for which a cause stands before another one is logged: of many tasks each may run into one of its own.
const STANDS: Duration = Duration::from_secs(30);

/// Trouble of a server: logged once when it begins, when its cause has changed, and once when it is over.
pub(crate) struct Outage {
    server: &'static str,
    down: AtomicBool,
    said: Mutex<Option<Said>>,
    /// The number of those who wait for its end.
    holders: AtomicUsize,
}

/// Somebody who waits for the end of an outage. Once nobody does it is forgotten, as nobody would learn of it.
pub(crate) struct Holder<'a>(&'a Outage);

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.forget();
        }
    }
}

/// Those in which a worker is not ready: what it does for its tasks is not done.
pub(crate) struct Outages {
    pub(crate) results: Outage,
    pub(crate) quarantine: Outage,
}

impl Default for Outages {
    fn default() -> Self {
        Self {
            results: Outage::of("the result backend"),
            quarantine: Outage::of("the quarantine queue"),
        }
    }
}

impl Outages {
    /// The server of one that lasts.
    pub(crate) fn server(&self) -> Option<&'static str> {
        let all = [&self.results, &self.quarantine];
        let lasting = all.into_iter().find(|outage| outage.lasts());
        lasting.map(|outage| outage.server)
    }
}

/// The cause that was said last.
struct Said {
    cause: String,
    at: Instant,
}

/// The news in a failure.
#[derive(Debug, PartialEq)]
enum News {
    Begins,
    Changes,
    None,
}

impl Outage {
    pub(crate) fn of(server: &'static str) -> Self {
        Self {
            server,
            down: AtomicBool::new(false),
            said: Mutex::default(),
            holders: AtomicUsize::new(0),
        }
    }

    pub(crate) fn begins(&self, error: &dyn std::error::Error) {
        let (server, cause) = (self.server, causes(error));
        match self.news(&cause, Instant::now()) {
            News::Begins => {
                tracing::warn!(target: "petiole", "{server} does not take what it is given, and is tried again: {cause}");
            }
            News::Changes => {
                tracing::warn!(target: "petiole", "{server} is still in trouble, now: {cause}");
            }
            News::None => tracing::debug!(target: "petiole", "{cause}"),
        }
    }

    fn news(&self, cause: &str, now: Instant) -> News {
        let mut said = self.said();
        self.down.store(true, Ordering::Relaxed);
        let news = match &*said {
            None => News::Begins,
            Some(said)
                if said.cause != cause && now.saturating_duration_since(said.at) >= STANDS =>
            {
                News::Changes
            }
            Some(_) => return News::None,
        };
        *said = Some(Said {
            cause: cause.to_owned(),
            at: now,
        });
        news
    }

    pub(crate) fn ends(&self) {
        if !self.down.load(Ordering::Relaxed) {
            return;
        }
        let mut said = self.said();
        if said.take().is_some() {
            self.down.store(false, Ordering::Relaxed);
            tracing::info!(target: "petiole", "{} takes what it is given again", self.server);
        }
    }

    pub(crate) fn hold(&self) -> Holder<'_> {
        self.holders.fetch_add(1, Ordering::AcqRel);
        Holder(self)
    }

    /// Its end is not known, and nobody waits for it any more.
    pub(crate) fn forget(&self) {
        let mut said = self.said();
        *said = None;
        self.down.store(false, Ordering::Relaxed);
    }

    pub(crate) fn lasts(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    fn said(&self) -> MutexGuard<'_, Option<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_when_it_changes_and_has_stood_for_a_while() {
        let (outage, start) = (Outage::of("the server"), Instant::now());
        let news = |cause, seconds| outage.news(cause, start + Duration::from_secs(seconds));
        assert_eq!(news("refused", 0), News::Begins);
        assert_eq!(news("no answer", 29), News::None);
        assert_eq!(news("refused", 30), News::None);
        assert_eq!(news("no answer", 31), News::Changes);
        assert_eq!(news("refused", 60), News::None);
        assert_eq!(news("refused", 61), News::Changes);
        outage.ends();
        assert!(!outage.lasts());
        assert_eq!(news("refused", 62), News::Begins);
        assert!(outage.lasts());
    }

    #[test]
    fn an_outage_that_nobody_waits_for_is_forgotten() {
        let outage = Outage::of("the server");
        outage.news("refused", Instant::now());
        let (one, other) = (outage.hold(), outage.hold());
        drop(one);
        assert!(outage.lasts());
        drop(other);
        assert!(!outage.lasts());
        assert_eq!(outage.news("refused", Instant::now()), News::Begins);
    }
}
