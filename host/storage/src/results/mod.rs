//! Result backends: where the states of tasks are stored, in Celery's form.

mod address;
pub(crate) mod backend;
mod connect;
pub(crate) mod error;

pub use backend::{BACKEND_WAIT, End, RECORD_LIFE, RESULT_EXPIRES, ResultBackend, is_final};
pub use connect::{Results, check_files, mode};
pub use error::ResultError;
