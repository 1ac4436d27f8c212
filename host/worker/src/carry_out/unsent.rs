//! Messages of a plan that the broker has not confirmed.

use std::borrow::Cow;
use std::collections::VecDeque;

use petiole_broker::PublishError;
use petiole_celery::Publication;

/// Tries of a message that the broker itself does not take (`basic.nack`): a queue that is full, for one, or
/// that is on a node which restarts. It takes two minutes.
const NACKS: u32 = 30;
/// The same of one for an exchange, whose other queues get it each time: it takes 11 s.
const NACKS_OF_EXCHANGE: u32 = 9;

/// A message that is not confirmed yet.
pub(super) struct Unconfirmed<'a> {
    pub(super) publication: Cow<'a, Publication>,
    pub(super) nacks: u32,
    /// Published instead of another one.
    pub(super) stands_in: bool,
}

impl<'a> Unconfirmed<'a> {
    pub(super) fn of(publication: Cow<'a, Publication>) -> Self {
        Self {
            publication,
            nacks: 0,
            stands_in: false,
        }
    }

    pub(super) fn standing_in(publication: Publication) -> Self {
        Self {
            stands_in: true,
            ..Self::of(Cow::Owned(publication))
        }
    }

    pub(super) fn note(&mut self, error: &PublishError) {
        if let PublishError::Nacked { .. } = error {
            self.nacks += 1;
        }
    }

    pub(super) fn is_nacked_too_often(&self) -> bool {
        let has_exchange = !self.publication.destination.exchange.is_empty();
        let most = if has_exchange {
            NACKS_OF_EXCHANGE
        } else {
            NACKS
        };
        self.nacks >= most
    }
}

/// The messages of a plan that are not out.
#[derive(Default)]
pub(super) struct Unsent<'a> {
    /// To be published again after a pause.
    pub(super) later: Vec<Unconfirmed<'a>>,
    /// Refused for good, with the broker's answer.
    pub(super) to_keep: VecDeque<(Cow<'a, Publication>, PublishError)>,
    /// Set where more is out than was when the run was committed the last time.
    pub(super) is_news: bool,
}

impl<'a> Unsent<'a> {
    /// The next one to be replaced by the messages that keep it. One at a time: what replaces a message may be much larger.
    pub(super) fn next_to_keep(&mut self) -> Option<(Cow<'a, Publication>, PublishError)> {
        if self.later.iter().any(|one| one.stands_in) {
            return None;
        }
        let next = self.to_keep.pop_front();
        self.is_news |= next.is_some();
        next
    }

    pub(super) fn publications(&self) -> impl Iterator<Item = &Publication> {
        let later = self.later.iter().map(|one| &*one.publication);
        later.chain(self.to_keep.iter().map(|(publication, _)| &**publication))
    }
}
