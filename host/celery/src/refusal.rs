use crate::Exception;

/// Reason why a message is not run. Not a failure of the task (see [`Outcome`](crate::Outcome)), nor a
/// fault of the host: running it again would be refused again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A content type that is never decoded, pickle and yaml among them.
    #[error(
        "refusing to decode {content_type}: send tasks as application/json (task_serializer = 'json')"
    )]
    ContentDisallowed {
        /// As the message gives it.
        content_type: String,
    },
    /// The message breaks the protocol.
    #[error("malformed message: {reason}")]
    Malformed {
        /// The fault, and its place.
        reason: String,
    },
    /// No active module has the task.
    #[error("unknown task {task:?}: no active module exports it (see `petiole tasks`)")]
    UnknownTask {
        /// The name asked for.
        task: String,
    },
    /// This worker, as it is configured, does not take the module that has the task.
    #[error("task {task:?}: this worker does not take its module {module}: {reason}")]
    ModuleRefused {
        /// The name asked for.
        task: String,
        /// The module that has it.
        module: String,
        /// The reason why it is not taken.
        reason: String,
    },
    /// The arguments do not fit the task's WIT types.
    #[error("{reason}")]
    Arguments {
        /// Names the task, the parameter, the type wanted and the value got.
        reason: String,
    },
    /// The arguments are larger than the task takes.
    #[error("argument limit of {limit} bytes exceeded: the task was given {size} bytes or more")]
    ArgumentsTooLarge {
        /// Bytes of the message's body, with what follows the task: of a compressed one, those that were read.
        size: usize,
        /// The task's limit.
        limit: usize,
    },
    /// The message takes more memory than the worker has for one.
    #[error(
        "its JSON may take {memory} bytes of memory, over the {limit} that the worker has for one message: send less, or \
         raise its memory_budget"
    )]
    TooMuchMemory {
        /// Bytes that it may take to read it.
        memory: usize,
        /// Bytes that there are for one.
        limit: usize,
    },
    /// The work that follows the task can't be carried out yet, so it must not run.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// The part of the canvas.
        what: String,
    },
    /// The broker would drop it if this delivery were lost too: each one before it was, most likely with the
    /// worker that ran it.
    #[error(
        "given back {count} times without being settled, and the limit is {limit}: its workers were lost, or it ended them"
    )]
    WorkerLost {
        /// Deliveries before this one, as the broker counts them.
        count: u64,
        /// The number after which a message is not run any more.
        limit: u64,
    },
    /// Whenever it ran, other tasks had all the memory.
    #[error(
        "given back {count} times, since other tasks had all of the worker's memory_budget: raise it, or lower the \
         limits of what runs beside it"
    )]
    NoMemoryLeft {
        /// Times that it was given back.
        count: u32,
    },
    /// The results or messages that follow from it can't be stored or sent, for good or for too long.
    #[error("what follows from the task can't be carried out: {reason}")]
    NotCarriedOut {
        /// The server's words.
        reason: String,
    },
    /// Received after its `expires`.
    #[error("expired")]
    Expired,
}

impl Refusal {
    /// The class of the exception of [`Refusal::ArgumentsTooLarge`].
    pub const ARGUMENTS_TOO_LARGE: &str = "ArgumentsTooLarge";

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed {
            reason: reason.into(),
        }
    }

    /// The exception that a Celery worker would store in such a case, for the sender to see.
    pub fn exception(&self) -> Exception {
        let message = self.to_string();
        match self {
            Self::ContentDisallowed { .. } => {
                Exception::new("kombu.exceptions", "ContentDisallowed", message)
            }
            Self::Malformed { .. } => Exception::new("kombu.exceptions", "DecodeError", message),
            Self::UnknownTask { task } => {
                Exception::new("celery.exceptions", "NotRegistered", task)
            }
            Self::ModuleRefused { .. } => {
                Exception::new("celery.exceptions", "NotRegistered", message)
            }
            Self::Arguments { .. } => Exception::new("builtins", "TypeError", message),
            Self::ArgumentsTooLarge { .. } | Self::TooMuchMemory { .. } => {
                Exception::new("petiole.exceptions", Self::ARGUMENTS_TOO_LARGE, message)
            }
            Self::Unsupported { .. } => Exception::new("builtins", "NotImplementedError", message),
            Self::WorkerLost { .. } => {
                Exception::new("billiard.exceptions", "WorkerLostError", message)
            }
            Self::NoMemoryLeft { .. } => {
                Exception::new("petiole.exceptions", "NoMemoryLeft", message)
            }
            Self::NotCarriedOut { .. } => {
                Exception::new("petiole.exceptions", "NotCarriedOut", message)
            }
            Self::Expired => Exception::new("celery.exceptions", "TaskRevokedError", message),
        }
    }
}
