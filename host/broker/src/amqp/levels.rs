//! The exchanges and queues of delayed delivery, declared.

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use petiole_celery::wire::DELAY_LEVELS as LEVELS;

use super::channel::{close, refused};
use super::declare::ensure;
use super::delay::{EXIT, arguments, name, next};
use super::supervise::Live;
use crate::BrokerError;

/// Declares the levels and the exit. Queues that exist are taken as they are (`queue_type` is Celery's
/// to configure); new ones are quorum queues as Celery's default has it, classic where the broker has
/// no quorum queues with at-least-once dead-lettering.
pub(super) async fn declare(live: &Live) -> Result<(), BrokerError> {
    let channel = live.channel().await?;
    declare_exchange(&channel, EXIT).await?;
    for level in (0..LEVELS).rev() {
        declare_exchange(&channel, &name(level)).await?;
    }
    for level in (0..LEVELS).rev() {
        let queue = name(level);
        ensure(
            live,
            &queue,
            &[arguments(level, true), arguments(level, false)],
        )
        .await?;
        wire(&channel, level)
            .await
            .map_err(|error| refused(&queue, &error))?;
    }
    close(&channel).await;
    Ok(())
}

async fn declare_exchange(channel: &Channel, name: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
        .map_err(|error| refused(name, &error))
}

/// The bindings of one level: digit 1 to its queue, digit 0 to the next level.
async fn wire(channel: &Channel, level: u8) -> lapin::Result<()> {
    let here: ShortString = name(level).into();
    let next: ShortString = next(level).into();
    let skipped = "*.".repeat(usize::from(LEVELS - 1 - level));
    let none = FieldTable::default();
    channel
        .queue_bind(
            here.clone(),
            here.clone(),
            format!("{skipped}1.#").into(),
            QueueBindOptions::default(),
            none.clone(),
        )
        .await?;
    channel
        .exchange_bind(
            next,
            here,
            format!("{skipped}0.#").into(),
            ExchangeBindOptions::default(),
            none,
        )
        .await
}
