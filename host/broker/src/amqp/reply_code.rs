//! Reply codes of AMQP that mean something here (AMQP 0-9-1, section 1.2).

/// Permission is missing.
pub(super) const ACCESS_REFUSED: u16 = 403;
/// There is no such queue or exchange.
pub(super) const NOT_FOUND: u16 = 404;
/// A queue, as it is, can't do that.
pub(super) const PRECONDITION_FAILED: u16 = 406;
