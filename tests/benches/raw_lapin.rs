//! The measure that the worker's throughput is held against: consume and acknowledge, nothing else.
//!
//! `raw_lapin AMQP_URL QUEUE` runs until it is killed.

use anyhow::{Context, Result};
use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

/// Enough that the broker never waits for an ack.
const PREFETCH: u16 = 256;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("the broker's URL is missing")?;
    let queue = arguments.next().context("the queue's name is missing")?;

    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    while let Some(delivery) = deliveries.next().await {
        delivery?.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
