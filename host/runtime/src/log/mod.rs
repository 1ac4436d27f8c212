//! Lines of a task's log, and the texts of its failures: without secrets and control characters.

pub(crate) mod backtrace;
pub(crate) mod escape;
pub(crate) mod last_words;
pub(crate) mod redact;
pub(crate) mod task_log;
