//! Time for an operation on a channel.

use std::time::Duration;

use tokio::time::timeout;

use crate::BrokerError;

/// The time for a declaration or a question, a reconnect included.
pub(super) const OPERATION_LIMIT: Duration = Duration::from_secs(30);

/// Carries an operation out within [`OPERATION_LIMIT`]: a channel can be silent on a connection that lives.
pub(super) async fn limited<T>(
    operation: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    timeout(OPERATION_LIMIT, operation)
        .await
        .unwrap_or_else(|_| {
            Err(BrokerError::Lost {
                reason: format!("nothing came within {} s", OPERATION_LIMIT.as_secs()),
            })
        })
}
