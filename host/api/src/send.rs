//! Sending a task: from the command line and from the HTTP API alike.

use jiff::Timestamp;
use petiole_broker::{Broker, PublishError};
use petiole_celery::{Origin, Routes, Signature, SignatureError};

/// A task that was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The call can't be made a message.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The broker is not known to have it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Sends a task and returns its id, once the broker has confirmed it.
///
/// # Errors
/// When its signature can't be made a message, or the broker does not have it for certain.
pub async fn send(
    broker: &dyn Broker,
    signature: &Signature,
    routes: &Routes,
    origin: &str,
    now: Timestamp,
) -> Result<String, SendError> {
    let id = signature
        .task_id()
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let from = Origin {
        parent_id: None,
        root_id: None,
        origin,
        sent_again: 0,
    };
    let publication = petiole_celery::compose(signature, &id, &[], from, routes, now)?;
    broker.publish(publication).await?;
    Ok(id)
}
