use std::error::Error;

use petiole_celery::{Commit, RunKey, json};

/// The result backend is named wrongly, out of reach, or refuses. None of them says anything about
/// the task: all are faults of the host.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The URL can't be used: trying again won't help.
    #[error(
        "result backend {url:?}: {reason}; what there is: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], \
         rediss:// (TLS), redis+socket:///PATH, sentinel://HOST:26379/DB?master_name=NAME, sqlite://PATH, rpc://, disabled://"
    )]
    Url {
        /// The URL, its password hidden.
        url: String,
        /// The reason.
        reason: String,
    },
    /// No answer within [`BACKEND_WAIT`](super::BACKEND_WAIT); the backend may be back later.
    #[error("result backend {backend} is out of reach")]
    Unreachable {
        /// The URL, its password hidden.
        backend: String,
        /// The error of the last attempt.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The backend answered that it won't: out of memory, read-only, wrong password, disk full.
    #[error("result backend {backend} refuses")]
    Refused {
        /// The URL, its password hidden.
        backend: String,
        /// True if it will refuse again, however often it is asked: no permission, a wrong type.
        is_final: bool,
        /// The backend's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The worker's user lacks rights that it needs there.
    #[error(
        "result backend {backend} does not let its user store results: grant it at least `{rights}`"
    )]
    NotPermitted {
        /// The URL, its password hidden.
        backend: String,
        /// The rights to grant, as the backend's access control writes them.
        rights: String,
        /// The backend's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The value stored for the task is not JSON: somebody else wrote it.
    #[error("what result backend {backend} holds for task {task_id:?} is not json")]
    Corrupt {
        /// The URL, its password hidden.
        backend: String,
        /// The task that was asked for.
        task_id: String,
        /// The parser's error, with the place.
        source: serde_json::Error,
    },
    /// The value stored under a run's key is no record of ours: somebody else wrote it.
    #[error(
        "what result backend {backend} holds for run {run:?} is no record: send the task's message again by `petiole quarantine retry`"
    )]
    CorruptRecord {
        /// The URL, its password hidden.
        backend: String,
        /// The run's key.
        run: String,
    },
}

impl ResultError {
    /// True if the configuration has to be changed before anything can work.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Url { .. })
    }

    /// True if the same request will fail again, however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::NotPermitted { .. }
            | Self::Corrupt { .. }
            | Self::CorruptRecord { .. } => true,
            Self::Refused { is_final, .. } => *is_final,
            Self::Unreachable { .. } => false,
        }
    }
}

/// Reads what a backend holds for a run.
pub(crate) fn read(
    backend: &str,
    run: &RunKey,
    record: Vec<u8>,
) -> Result<Commit<'static>, ResultError> {
    Commit::read(record).ok_or_else(|| ResultError::CorruptRecord {
        backend: backend.to_owned(),
        run: run.to_string(),
    })
}

/// Reads what a backend holds for a task.
pub(crate) fn parse(
    backend: &str,
    task_id: &str,
    stored: &[u8],
) -> Result<serde_json::Value, ResultError> {
    json::parse(stored).map_err(|source| ResultError::Corrupt {
        backend: backend.to_owned(),
        task_id: task_id.to_owned(),
        source,
    })
}
