use std::panic::resume_unwind;

use tokio::task::spawn_blocking;

/// Reads files on a thread that may wait for them: a disk can be slow, or away. Never ready where the runtime ends before.
///
/// # Errors
/// Those of the reading.
pub async fn blocking<T: Send + 'static, E: Send + 'static>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
