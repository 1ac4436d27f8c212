//! The modules that the catalog says are active, as this worker has them: loaded, or not and why. Pure, given the time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use petiole_modules::{Digest, Module, ModuleName, ModuleState, Version, VersionNumber};
use petiole_permits::Backoff;

use crate::catalog::registered::RegisteredTask;
use crate::catalog::trouble::{InstallError, Passing};
use crate::turns::module::Turns;

/// The pauses after failures to load.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE);
/// The pause after a slow failure, as a multiple of its time, up to the longest: loading takes a tenth of the time.
const REST: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);

/// Time until a message comes again whose module is being loaded, or whose catalog can't be read.
const SOON: Duration = Duration::from_secs(5);

/// Bytes of a reason that are kept: it may list all imports of a component.
const MAX_REASON: usize = 1024;

/// The active modules; replaced as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    /// Those that answer here.
    pub(crate) modules: HashMap<ModuleName, Loaded>,
    pub(crate) tasks: HashMap<String, Arc<RegisteredTask>>,
    /// Those that do not, or answer as an earlier version still.
    pub(crate) missing: BTreeMap<ModuleName, Missing>,
    /// The reason why the catalog could not be read the last time.
    pub(crate) unread: Option<Arc<str>>,
    /// Names that another module has, each with the one that may not have it.
    pub(crate) claims: BTreeSet<Claim>,
}

/// A task that does not answer, since another module has its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) task: String,
    pub(crate) module: ModuleName,
    pub(crate) owner: ModuleName,
}

/// A version that answers.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) version: VersionNumber,
    pub(crate) digest: Digest,
    /// With the digest, tells a version from one of its number before the module was removed.
    pub(crate) uploaded_at: Timestamp,
    /// Settles which of two modules has a name.
    pub(crate) activated_at: Option<Timestamp>,
    pub(crate) turns: Option<Turns>,
    pub(crate) tasks: Vec<Arc<RegisteredTask>>,
}

impl Loaded {
    pub(crate) fn is(&self, version: &Version) -> bool {
        self.version == version.number
            && self.digest == version.digest
            && self.uploaded_at == version.uploaded_at
    }
}

/// A version that is active in the catalog and not loaded here.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    pub(crate) version: Arc<Version>,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has not been tried yet.
    New,
    /// The host failed, and tries again.
    Passing {
        kind: Passing,
        reason: Arc<str>,
        backoff: Backoff,
        next: Instant,
    },
    /// This worker does not load it, as it is configured.
    Refused { reason: Arc<str> },
}

/// A version that is active in the catalog and not loaded here, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLoaded {
    /// The module.
    pub module: ModuleName,
    /// The version that is active in the catalog.
    pub version: VersionNumber,
    /// The reason why it is not loaded.
    pub reason: Arc<str>,
    /// This worker never loads it as it is configured; else it tries again.
    pub refused: bool,
}

/// The meaning of a task's name here.
#[derive(Debug)]
pub(crate) enum Found {
    Task(Arc<RegisteredTask>),
    /// A fault of the host: its module is not loaded yet, or the catalog can't be read.
    NotLoaded {
        /// The time until asking again makes sense.
        again: Duration,
    },
    /// This worker does not take the module.
    Refused {
        module: ModuleName,
        reason: Arc<str>,
    },
    /// No active module has it, as far as the catalog was read.
    Unknown,
}

impl Active {
    pub(crate) fn find(&self, task: &str, now: Instant) -> Found {
        if let Some(task) = self.tasks.get(task) {
            return Found::Task(Arc::clone(task));
        }
        let mut refused = Found::Unknown;
        for (module, missing) in &self.missing {
            if !missing.version.has_task(module, task) {
                continue;
            }
            match &missing.why {
                Why::New => return Found::NotLoaded { again: SOON },
                Why::Passing { next, .. } => {
                    let again = next.saturating_duration_since(now);
                    let again = again.clamp(SOON, LONGEST_PAUSE);
                    return Found::NotLoaded { again };
                }
                Why::Refused { reason } => {
                    refused = Found::Refused {
                        module: module.clone(),
                        reason: Arc::clone(reason),
                    };
                }
            }
        }
        match (refused, &self.unread) {
            (Found::Unknown, Some(_)) => Found::NotLoaded { again: SOON },
            (found, _) => found,
        }
    }

    /// The module that has a name, where that is certain.
    pub(crate) fn owner(&self, task: &str) -> Option<ModuleName> {
        if let Some(task) = self.tasks.get(task) {
            return Some(task.module.clone());
        }
        let mut missing = self.missing.iter();
        let owner = missing.find(|(_, missing)| missing.version.lists_task(task));
        owner.map(|(module, _)| module.clone())
    }

    /// True where the task's module is about to be tried for the first time.
    pub(crate) fn is_coming(&self, task: &str) -> bool {
        !self.tasks.contains_key(task)
            && self.missing.iter().any(|(module, missing)| {
                missing.why == Why::New && missing.version.has_task(module, task)
            })
    }

    /// True where taking messages makes sense: something answers, or what is active was decided on.
    pub(crate) fn serves(&self) -> bool {
        !self.modules.is_empty() || self.unready().is_none()
    }

    /// The fault of the host that keeps this worker from having all that is active.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.unread.is_some() {
            return Some(Passing::Catalog.to_string());
        }
        self.missing.iter().find_map(|(module, missing)| {
            let why = match &missing.why {
                Why::New => "it is being loaded".to_owned(),
                Why::Passing { kind, .. } => kind.to_string(),
                Why::Refused { .. } => return None,
            };
            let number = missing.version.number;
            Some(format!(
                "module {module} version {number} is not loaded: {why}"
            ))
        })
    }

    /// The states, for others to read.
    pub(crate) fn states(&self) -> BTreeMap<ModuleName, ModuleState> {
        let loaded = self.modules.iter().map(|(module, loaded)| {
            let state = ModuleState {
                version: Some(loaded.version),
                ..ModuleState::default()
            };
            (module.clone(), state)
        });
        let mut states: BTreeMap<_, _> = loaded.collect();
        for missing in self.not_loaded() {
            let state = states.entry(missing.module).or_default();
            state.reason = Some(missing.reason.to_string());
            state.refused = missing.refused;
        }
        states
    }

    pub(crate) fn not_loaded(&self) -> Vec<NotLoaded> {
        let shown = |(module, missing): (&ModuleName, &Missing)| {
            let (reason, refused) = match &missing.why {
                Why::New => ("it is being loaded".into(), false),
                Why::Passing { reason, .. } => (Arc::clone(reason), false),
                Why::Refused { reason } => (Arc::clone(reason), true),
            };
            NotLoaded {
                module: module.clone(),
                version: missing.version.number,
                reason,
                refused,
            }
        };
        self.missing.iter().map(shown).collect()
    }

    /// The next version to be tried.
    pub(crate) fn due(&self, now: Instant) -> Option<(ModuleName, Arc<Version>)> {
        let is_due = |missing: &Missing| match &missing.why {
            Why::New => true,
            Why::Passing { next, .. } => *next <= now,
            Why::Refused { .. } => false,
        };
        let due = self.missing.iter().find(|(_, missing)| is_due(missing));
        due.map(|(module, missing)| (module.clone(), Arc::clone(&missing.version)))
    }

    /// After the catalog was read.
    pub(crate) fn following(&self, catalog: Vec<Module>) -> Self {
        let mut next = Self::default();
        for module in catalog {
            let Some(version) = module.active_version() else {
                continue;
            };
            let (name, loaded) = (&module.name, self.modules.get(&module.name));
            if let Some(old) = loaded {
                let mut old = old.clone();
                if old.is(version) {
                    old.activated_at = version.activated_at;
                }
                next.modules.insert(name.clone(), old);
            }
            if loaded.is_some_and(|loaded| loaded.is(version)) {
                continue;
            }
            let before = self.missing.get(name);
            let before = before.filter(|missing| is_same(&missing.version, version));
            let why = before.map_or(Why::New, |missing| missing.why.clone());
            let version = Arc::new(version.clone());
            next.missing.insert(name.clone(), Missing { version, why });
        }
        next.with_names()
    }

    /// After a version was loaded, unless the catalog has gone on to another one.
    pub(crate) fn having(&self, name: &ModuleName, loaded: Loaded) -> Self {
        let mut next = self.clone();
        let wanted = self.missing.get(name);
        if wanted.is_some_and(|missing| loaded.is(&missing.version)) {
            next.missing.remove(name);
            next.modules.insert(name.clone(), loaded);
        }
        next.with_names()
    }

    /// After a version could not be loaded, which took so long.
    pub(crate) fn failing(
        &self,
        name: &ModuleName,
        version: &Version,
        error: &InstallError,
        took: Duration,
        now: Instant,
    ) -> Self {
        let mut next = self.clone();
        let missing = next.missing.get_mut(name);
        if let Some(missing) = missing.filter(|missing| is_same(&missing.version, version)) {
            let reason = reason(error);
            missing.why = match error.passing() {
                None => Why::Refused { reason },
                Some(kind) => {
                    let mut backoff = match &missing.why {
                        Why::Passing { backoff, .. } => backoff.clone(),
                        Why::New | Why::Refused { .. } => BACKOFF,
                    };
                    let next = now + pause(&mut backoff, took);
                    Why::Passing {
                        kind,
                        reason,
                        backoff,
                        next,
                    }
                }
            };
        }
        next
    }

    /// Gives each name to the first who claims it.
    fn with_names(mut self) -> Self {
        let loaded = self.modules.iter();
        let loaded = loaded.map(|(name, loaded)| (loaded.activated_at, name, &loaded.tasks[..]));
        let claims = in_order_of_claim(loaded.collect(), |task| task.has_default_name());
        (self.tasks, self.claims) = (HashMap::new(), BTreeSet::new());
        for task in claims {
            match self.tasks.entry(task.name.clone()) {
                Entry::Vacant(free) => drop(free.insert(Arc::clone(task))),
                Entry::Occupied(taken) => drop(self.claims.insert(Claim {
                    task: task.name.clone(),
                    module: task.module.clone(),
                    owner: taken.get().module.clone(),
                })),
            }
        }
        self
    }
}

/// The tasks of modules, each with when it became active. A name that two of them claim, which uploads at two workers or
/// a rollback can bring about, is the one's whose own name it begins with, else the one's that became active first. So
/// all workers agree.
pub(crate) fn in_order_of_claim<'a, T>(
    mut modules: Vec<(Option<Timestamp>, &ModuleName, &'a [T])>,
    has_default_name: impl Fn(&T) -> bool,
) -> Vec<&'a T> {
    modules.sort_by_key(|(since, name, _)| (*since, *name));
    let all = modules.into_iter().flat_map(|(.., tasks)| tasks);
    let (first, then): (Vec<_>, Vec<_>) = all.partition(|task| has_default_name(task));
    [first, then].concat()
}

fn is_same(one: &Version, other: &Version) -> bool {
    one.number == other.number && one.digest == other.digest && one.uploaded_at == other.uploaded_at
}

fn pause(backoff: &mut Backoff, took: Duration) -> Duration {
    let rest = took.saturating_mul(REST).min(LONGEST_REST);
    backoff.pause().max(rest)
}

/// An error with its causes, its beginning.
pub(crate) fn reason(error: &dyn std::error::Error) -> Arc<str> {
    let mut text = crate::causes::causes(error);
    if text.len() > MAX_REASON {
        text.truncate(text.floor_char_boundary(MAX_REASON));
        text.push_str("...");
    }
    text.into()
}

#[cfg(test)]
mod tests;
