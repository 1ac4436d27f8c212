//! Queues and exchanges, declared as Celery does, each try on a channel of its own: a refusal closes it.

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use tracing::debug;

use super::channel::{close, refused, soft};
use super::delay;
use super::names::queue_name;
use super::supervise::Live;
use crate::BrokerError;

/// Declares a queue as Celery does: durable, without arguments, bound to the durable direct exchange of its name. One
/// that exists stays as it is. True if it is bound so: an exchange or binding that can't be made breaks nothing, since
/// there is the default exchange.
pub(super) async fn queue(live: &Live, queue: &str) -> Result<bool, BrokerError> {
    if ensure(live, queue, &[FieldTable::default()]).await? {
        rejoin_delay(live, queue).await?;
    }
    has_own_exchange(live, queue).await
}

/// Binds a new queue to the exit of the delayed delivery, where there is one: messages for a queue of its name
/// that was deleted may be on their way there.
async fn rejoin_delay(live: &Live, queue: &str) -> Result<(), BrokerError> {
    match delay::bind(live, queue).await {
        Err(error) if live.gone.is_cancelled() => Err(error),
        Err(error) => {
            debug!(queue, %error, "the queue is not bound for delays");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn has_own_exchange(live: &Live, queue: &str) -> Result<bool, BrokerError> {
    match bind_own_exchange(live, queue).await {
        Ok(()) => Ok(true),
        Err(error) if live.gone.is_cancelled() => Err(error),
        Err(error) => {
            debug!(queue, %error, "the queue is not bound to a direct exchange of its name");
            Ok(false)
        }
    }
}

/// Declares a durable queue unless it exists, with the first of the arguments that the broker takes. True if it was
/// declared here.
pub(super) async fn ensure(
    live: &Live,
    queue: &str,
    arguments: &[FieldTable],
) -> Result<bool, BrokerError> {
    if length(live, queue).await?.is_some() {
        return Ok(false);
    }
    let name = queue_name(queue)?;
    let mut refusal = None;
    for arguments in arguments {
        let channel = live.channel().await?;
        match channel
            .queue_declare(
                name.clone(),
                QueueDeclareOptions::durable(),
                arguments.clone(),
            )
            .await
        {
            Ok(_) => {
                close(&channel).await;
                return Ok(true);
            }
            Err(error) if soft(&error).is_some() => refusal = Some(refused(queue, &error)),
            Err(error) => return Err(refused(queue, &error)),
        }
    }
    // Someone may have declared it meanwhile, with other arguments.
    match (length(live, queue).await?, refusal) {
        (None, Some(refusal)) => Err(refusal),
        _ => Ok(false),
    }
}

/// Binds a queue to the direct exchange of its name, which is made where it is missing.
pub(super) async fn bind_own_exchange(live: &Live, queue: &str) -> Result<(), BrokerError> {
    let name = queue_name(queue)?;
    let channel = live.channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.clone(),
            ExchangeKind::Direct,
            durable,
            FieldTable::default(),
        )
        .await
        .map_err(|error| refused(queue, &error))?;
    channel
        .queue_bind(
            name.clone(),
            name.clone(),
            name,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| refused(queue, &error))?;
    close(&channel).await;
    Ok(())
}

/// The number of ready messages; none where there is no such queue.
pub(super) async fn length(live: &Live, queue: &str) -> Result<Option<u64>, BrokerError> {
    let name = queue_name(queue)?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let channel = live.channel().await?;
    match channel
        .queue_declare(name, passive, FieldTable::default())
        .await
    {
        Ok(queue) => {
            close(&channel).await;
            Ok(Some(u64::from(queue.message_count())))
        }
        Err(error) if soft(&error) == Some(&AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(refused(queue, &error)),
    }
}

/// Removes the ready messages, and returns how many there were.
pub(super) async fn purge(live: &Live, queue: &str) -> Result<u64, BrokerError> {
    let channel = live.channel().await?;
    let removed = channel
        .queue_purge(queue_name(queue)?, QueuePurgeOptions::default())
        .await
        .map_err(|error| refused(queue, &error))?;
    close(&channel).await;
    Ok(u64::from(removed))
}
