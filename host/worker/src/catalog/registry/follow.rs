//! Reading the catalog: cheap, and asked for before any name counts as unknown.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petiole_modules::{Generation, Snapshot};
use tokio::task::JoinHandle;

use super::Registry;
use crate::catalog::active::{Active, reason};
use crate::catalog::trouble::RegistryError;

/// Time between two looks at the catalog for what others have activated in a shared store.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks, however many names that nobody knows are asked for: looking takes a tenth of the
/// time, so that names of a slow store cost no more. Messages that wait for a look are in the way of others.
pub(super) const LOOKS_APART: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(100);
const LOOKS_REST: u32 = 10;
/// Time that a store may take to show its catalog.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// Time that a message waits here for a catalog to be read and a module to be loaded; afterwards it does so in the broker.
const FIND_PATIENCE: Duration = Duration::from_secs(8);

/// The state of following the catalog.
#[derive(Default)]
pub(super) struct Follower {
    /// Set once the store's folders were there, or could be made. From then on they are not made again: a store that
    /// went away must not look like an empty one.
    found: bool,
    seen: Option<Generation>,
    /// All who asked before this are answered.
    pub(super) answered: Option<Instant>,
    /// Time after that before the next look begins, at the earliest.
    apart: Duration,
    /// The one that is under way, and when it began. A store that hangs has one thread waiting for it, not one a look.
    look: Option<(Instant, JoinHandle<Look>)>,
}

pub(super) fn apart(took: Duration) -> Duration {
    let (least, most) = LOOKS_APART.into_inner();
    took.saturating_mul(LOOKS_REST).clamp(least, most)
}

/// The catalog, where it has changed.
type Look = Result<Option<Snapshot>, RegistryError>;

impl Registry {
    /// Picks up what has become active since the last time, and loads it.
    ///
    /// # Errors
    /// When the catalog can't be read; what was active stays so. Versions that can't be loaded are
    /// [listed](Self::not_loaded).
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        let looked = self.look().await;
        self.load_due().await;
        looked
    }

    /// Follows the catalog for good: looks at it each second and when it is asked to, and loads what is active there as
    /// soon as it can be loaded.
    pub(crate) async fn follow(&self) {
        let looking = async {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // An error is logged when it changes.
                let _ = self.look().await;
            }
        };
        let loading = async {
            loop {
                self.load_due().await;
                let _ = tokio::time::timeout(LOOK, self.news.notified()).await;
            }
        };
        tokio::join!(looking, loading);
    }

    /// Reads the catalog, unless it was read since this was called: one look answers all who ask meanwhile.
    pub(crate) async fn look(&self) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let mut follower = self.catalog.lock().await;
        while follower.answered.is_none_or(|answered| answered < asked) {
            if let Some(answered) = follower.answered {
                let pause = follower.apart.saturating_sub(answered.elapsed());
                tokio::time::sleep(pause).await;
            }
            let known = (follower.found, follower.seen);
            let (began, look) = follower
                .look
                .get_or_insert_with(|| (Instant::now(), self.read(known)));
            let began = *began;
            let Ok(look) = tokio::time::timeout(LOOK_PATIENCE, look).await else {
                follower.answered = Some(Instant::now());
                self.unread(format!("no answer in {LOOK_PATIENCE:?}").into());
                break;
            };
            (follower.look, follower.answered) = (None, Some(began));
            follower.apart = apart(began.elapsed());
            match look.map_err(RegistryError::from).flatten() {
                Ok(snapshot) => {
                    follower.found = true;
                    follower.seen = snapshot
                        .as_ref()
                        .map(|new| new.generation)
                        .or(follower.seen);
                    self.read_as(snapshot);
                }
                Err(error) => self.unread(reason(&error)),
            }
        }
        match &self.active().unread {
            None => Ok(()),
            Some(reason) => Err(RegistryError::Unread {
                reason: Arc::clone(reason),
            }),
        }
    }

    fn read(&self, (found, seen): (bool, Option<Generation>)) -> JoinHandle<Look> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if !found {
                store.create()?;
            }
            Ok(match seen {
                Some(seen) => store.catalog().changed_since(seen)?,
                None => Some(store.catalog().snapshot()?),
            })
        })
    }

    fn read_as(&self, snapshot: Option<Snapshot>) {
        if self.active().unread.is_some() {
            tracing::info!(target: "petiole", "the catalog of modules is read again");
            self.replace(|active| Active {
                unread: None,
                ..active.clone()
            });
        }
        if let Some(snapshot) = snapshot {
            self.replace(|active| active.following(snapshot.modules));
            self.news.notify_one();
        }
    }

    fn unread(&self, reason: Arc<str>) {
        if self.active().unread.as_ref() == Some(&reason) {
            return;
        }
        tracing::error!(target: "petiole", "the catalog of modules can't be read, and is tried again each second: {reason}");
        self.replace(|active| Active {
            unread: Some(reason),
            ..active.clone()
        });
    }

    /// Finds out whether an active module has a task that none has here: asks the catalog, and waits a little for a
    /// version that is being loaded for the first time. False where the catalog was not read in time.
    pub(crate) async fn seek(&self, task: &str) -> bool {
        let mut replaced = self.replaced.subscribe();
        let sought = tokio::time::timeout(FIND_PATIENCE, async {
            // An error shows in what is found.
            let _ = self.look().await;
            while self.active().is_coming(task) {
                // The sender lives in `self`.
                let _ = replaced.changed().await;
            }
        });
        sought.await.is_ok() || self.active().is_coming(task)
    }
}
