//! The request that a task runs for, and the time it has left.

use crate::{Request, host};

/// True once this task has passed a soft limit, of wall time or of CPU time. It should end soon: the hard limit
/// ends it wherever it is.
///
/// ```
/// # let rows: [u64; 3] = [1, 2, 3];
/// let mut sum = 0;
/// for row in rows {
///     if petiole::context::soft_limit_reached() {
///         break;
///     }
///     sum += row;
/// }
/// # assert_eq!(sum, 6);
/// ```
pub fn soft_limit_reached() -> bool {
    host::soft_limit_reached()
}

/// The request that this task runs for.
pub fn context() -> Request {
    host::request_of_task()
}
