//! Consumes one queue, over as many connections as it takes.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::BasicGetOptions;
use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::forward::{Ended, forward};
use super::names::queue_name;
use super::operation::{OPERATION_LIMIT, limited};
use super::subscription::{Subscription, delivered, subscribe};
use super::supervise::{BACKOFF, Link, Live};
use super::window::Window;
use super::{ack, declare};
use crate::delivery::{Receipt, Settlement};
use crate::memory::Share;
use crate::said::Said;
use crate::{BrokerError, Delivery, Terms};

/// Forwards deliveries until nobody reads them any more or the broker is closed.
pub(super) async fn feed(
    link: Link,
    queue: String,
    mut terms: Terms,
    share: Arc<Share>,
    first: Subscription,
    out: mpsc::Sender<Delivery>,
) {
    let mut subscription = first;
    let mut window = Window::new(terms.prefetch);
    while let Ended::Lost = forward(subscription, &queue, &mut window, &out).await {
        terms.prefetch = window.asked;
        let again = tokio::select! {
            again = resubscribe(&link, &queue, terms, &share) => again,
            () = out.closed() => return,
        };
        match again {
            Some(again) => subscription = again,
            None => return,
        }
        info!(queue, "consuming again");
    }
}

/// Fetches the messages of a queue one by one, on a channel of its own.
pub(super) struct Getting {
    channel: Channel,
    queue: ShortString,
    gone: CancellationToken,
}

impl Getting {
    pub(super) async fn start(live: &Live, queue: &str) -> Result<Self, BrokerError> {
        if declare::length(live, queue).await?.is_none() {
            return Err(BrokerError::no_such_queue(queue));
        }
        Ok(Self {
            channel: live.channel().await?,
            queue: queue_name(queue)?,
            gone: live.gone.child_token(),
        })
    }

    /// Runs until the queue is empty, or nobody asks for more.
    pub(super) async fn run(self, out: mpsc::Sender<Delivery>) {
        let settlements = ack::start(self.channel.clone(), self.gone.clone(), ());
        let queue = self.queue.as_str();
        while let Ok(place) = out.reserve().await {
            let get = self
                .channel
                .basic_get(self.queue.clone(), BasicGetOptions::default());
            match timeout(OPERATION_LIMIT, get).await {
                Ok(Ok(Some(message))) => {
                    let delivery = message.delivery;
                    let receipt = Receipt::new(
                        delivery.delivery_tag,
                        settlements.clone(),
                        self.gone.clone(),
                        None,
                    );
                    place.send(delivered(delivery, queue, receipt));
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    warn!(queue, %error, "the queue is not read any further");
                    return self.gone.cancel();
                }
                Err(_) => return self.gone.cancel(),
            }
        }
        // Fails where the channel is gone, which gives everything back.
        let _ = settlements.send(Settlement::ReaderGone);
    }
}

/// Subscribes again, on this connection or the next; none once the broker is closed.
async fn resubscribe(
    link: &Link,
    queue: &str,
    terms: Terms,
    share: &Arc<Share>,
) -> Option<Subscription> {
    let mut backoff = BACKOFF;
    let mut said = Said::default();
    loop {
        sleep(backoff.jittered(fastrand::f64())).await;
        let live: Arc<Live> = link.live().await?;
        match limited(redeclare_and_subscribe(&live, queue, terms, share)).await {
            Ok(subscription) => return Some(subscription),
            Err(error) if said.is_news(&error) => warn!(queue, %error, "can't consume"),
            Err(_) => {}
        }
    }
}

async fn redeclare_and_subscribe(
    live: &Live,
    queue: &str,
    terms: Terms,
    share: &Arc<Share>,
) -> Result<Subscription, BrokerError> {
    if declare::length(live, queue).await?.is_none() {
        warn!(queue, "the queue was deleted: declaring it again");
        declare::queue(live, queue).await?;
    }
    subscribe(live, queue, terms, share).await
}
