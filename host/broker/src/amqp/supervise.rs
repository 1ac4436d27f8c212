//! A supervised connection: when it is lost a new one is made, to the next URL, as a new generation.
//! Lapin's own recovery stays off: it hides the loss, and hands out deliveries that are none any more.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use petiole_permits::Backoff;
use petiole_tls::is_untrusted;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::channel::{CLOSE_LIMIT, REPLY_SUCCESS, soft};
use super::guard;
use crate::said::Said;
use crate::url::Target;
use crate::{BrokerError, Unanswered};

/// Time for the first connection, over all URLs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time for one URL to answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// Seconds; a peer that is silent for two of them is taken for dead. A URL's `heartbeat` overrides it.
const HEARTBEAT: u16 = 10;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Interval for checking a connection's state, should lapin not report its end.
const LOOK: Duration = Duration::from_millis(500);

/// One generation of a connection.
pub(super) struct Live {
    connection: Connection,
    /// Those of its channels that deliver.
    pub(super) delivering: guard::Channels,
    /// Distinguishes it from every other of this process.
    pub(super) generation: u64,
    /// Cancelled when it is lost or closed.
    pub(super) gone: CancellationToken,
    /// Channel numbers that lapin opens no more.
    spent: AtomicU32,
    /// Cancelled when too many are spent.
    worn: CancellationToken,
}

/// A connection, and those of its channels that deliver.
type Connected = (Connection, guard::Channels);

static GENERATIONS: AtomicU64 = AtomicU64::new(0);

impl Live {
    fn new((connection, delivering): Connected) -> Self {
        Self {
            connection,
            delivering,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            gone: CancellationToken::new(),
            spent: AtomicU32::new(0),
            worn: CancellationToken::new(),
        }
    }

    /// True if the broker takes no messages for now (`connection.blocked`).
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// A new channel. Lapin 4.12 opens no more under the number of one that the broker has closed, and repeats why that
    /// was: the next number is tried, and a connection with too few of them left is replaced.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        let numbers = self.connection.configuration().channel_max();
        let mut last = Err(BrokerError::Closed);
        for _ in 0..numbers {
            let error = match self.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) => error,
            };
            let again = soft(&error).is_some();
            last = Err(BrokerError::Lost {
                reason: error.to_string(),
            });
            if !again {
                break;
            }
            let spent = self.spent.fetch_add(1, Ordering::Relaxed) + 1;
            if spent > u32::from(numbers) / 2 {
                self.worn.cancel();
            }
        }
        last
    }
}

/// Access to the current generation.
#[derive(Clone)]
pub(super) struct Link(watch::Receiver<Option<Arc<Live>>>);

impl Link {
    pub(super) fn connected(&self) -> bool {
        self.0
            .borrow()
            .as_ref()
            .is_some_and(|live| !live.gone.is_cancelled())
    }

    /// The largest frame that the broker takes, in bytes, as far as it is known.
    pub(super) fn frame_max(&self) -> u32 {
        let live = self.0.borrow();
        live.as_ref().map_or(guard::FRAME_MAX, |live| {
            live.connection.configuration().frame_max()
        })
    }

    /// True if the broker takes no messages for now.
    pub(super) fn blocked(&self) -> bool {
        let live = self.0.borrow();
        live.as_ref().is_some_and(|live| live.blocked())
    }

    /// The current generation, as soon as there is one; none once it is closed for good.
    pub(super) async fn live(&self) -> Option<Arc<Live>> {
        let mut state = self.0.clone();
        let live = state
            .wait_for(|live| live.as_ref().is_some_and(|live| !live.gone.is_cancelled()))
            .await
            .ok()?;
        live.clone()
    }
}

/// Connects for the first time, and keeps the connection from then on, until `closing`. To be called on
/// the runtime that lapin is to use.
pub(super) async fn establish(
    targets: Arc<[Target]>,
    name: String,
    closing: CancellationToken,
) -> Result<(Link, tokio::task::JoinHandle<()>), BrokerError> {
    let (connected, index) = first(&targets, &name).await?;
    let live = Arc::new(Live::new(connected));
    let (state, link) = watch::channel(Some(Arc::clone(&live)));
    let task = tokio::spawn(keep(live, index, targets, name, state, closing));
    Ok((Link(link), task))
}

async fn first(targets: &[Target], name: &str) -> Result<(Connected, usize), BrokerError> {
    let started = Instant::now();
    let mut backoff = BACKOFF;
    loop {
        let mut failures = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            match attempt(target, name).await {
                Ok(connected) => return Ok((connected, index)),
                Err(failure) => failures.push(failure),
            }
        }
        let pause = backoff.jittered(fastrand::f64());
        // A broker that answered and refused will refuse again.
        if failures.iter().all(|failure| failure.refused)
            || started.elapsed() + pause > CONNECT_LIMIT
        {
            return Err(BrokerError::Unreachable { failures });
        }
        sleep(pause).await;
    }
}

async fn keep(
    mut live: Arc<Live>,
    mut index: usize,
    targets: Arc<[Target]>,
    name: String,
    state: watch::Sender<Option<Arc<Live>>>,
    closing: CancellationToken,
) {
    loop {
        let reason = tokio::select! {
            reason = lost(&live.connection) => Some(reason),
            () = live.worn.cancelled() => Some("too many of its channels were closed by the broker".to_owned()),
            () = closing.cancelled() => None,
        };
        live.gone.cancel();
        state.send_replace(None);
        let Some(reason) = reason else {
            return close(&live.connection).await;
        };
        warn!(connection = name, reason, "the broker connection is lost");
        if live.worn.is_cancelled() {
            close(&live.connection).await;
        }
        drop(live);
        let again = tokio::select! {
            again = reconnect(&targets, &name, index + 1) => again,
            () = closing.cancelled() => return,
        };
        live = Arc::new(Live::new(again.0));
        index = again.1;
        state.send_replace(Some(Arc::clone(&live)));
        info!(connection = name, "the broker connection is back");
    }
}

/// Ends when the connection does, with the reason.
async fn lost(connection: &Connection) -> String {
    let mut events = pin!(connection.events_listener());
    let mut look = interval(LOOK);
    let mut reason = "closed".to_owned();
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Event::Error(error) => reason = error.to_string(),
                Event::ConnectionBlocked(why) => warn!(why, "the broker takes no messages for now"),
                Event::ConnectionUnblocked => info!("the broker takes messages again"),
                _ => {}
            },
            _ = look.tick() => {}
        }
        if !connection.status().connected() {
            return reason;
        }
    }
}

async fn reconnect(targets: &[Target], name: &str, start: usize) -> (Connected, usize) {
    let mut backoff = BACKOFF;
    let count = targets.len();
    let mut said = vec![Said::default(); count];
    loop {
        for offset in 0..count {
            let index = (start + offset) % count;
            let (Some(target), Some(said)) = (targets.get(index), said.get_mut(index)) else {
                continue;
            };
            // Before the attempt, so that a broker which accepts and drops connections is not hammered.
            sleep(backoff.jittered(fastrand::f64())).await;
            match attempt(target, name).await {
                Ok(connected) => return (connected, index),
                Err(failure) => {
                    if said.is_news(&failure) {
                        warn!(connection = name, %failure, "the broker does not answer");
                    }
                }
            }
        }
    }
}

async fn close(connection: &Connection) {
    // Closing is a courtesy: a broker that does not answer sees the socket end.
    let _ = timeout(CLOSE_LIMIT, connection.close(REPLY_SUCCESS, "bye".into())).await;
}

async fn attempt(target: &Target, name: &str) -> Result<Connected, Unanswered> {
    let failed = |reason: String, advice, refused| Unanswered {
        url: target.shown.clone(),
        reason,
        advice,
        refused,
    };
    let mut uri = target.uri.clone();
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = match &target.tls {
        Some(tls) => match timeout(ATTEMPT_LIMIT, tls.client_config()).await {
            Ok(read) => read.map(Some),
            Err(_) => Err(format!("not read within {} s", ATTEMPT_LIMIT.as_secs())),
        },
        None => Ok(None),
    };
    let tls = tls.map_err(|reason| failed(reason, "check the files that the url names", false))?;
    let channels = guard::Channels::default();
    let connecting = guard::connect(uri, properties, tls, channels.clone());
    match timeout(ATTEMPT_LIMIT, connecting).await {
        Ok(Ok(connection)) => Ok((connection, channels)),
        Ok(Err(error)) => {
            let (advice, refused) = advise(&error);
            Err(failed(error.to_string(), advice, refused))
        }
        Err(_) => Err(failed(
            format!("no answer within {} s", ATTEMPT_LIMIT.as_secs()),
            "is the host reachable, or does a firewall drop packets?",
            false,
        )),
    }
}

/// Advice on what to look at; true if trying again is in vain.
fn advise(error: &lapin::Error) -> (&'static str, bool) {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                ("check the user name and the password", true)
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                ("check the virtual host, and that the user may use it", true)
            }
            AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => {
                ("the broker's log may say more", false)
            }
        },
        ErrorKind::IOError(error) if is_untrusted(&**error) => (
            "name the authority that signed its certificate with ssl_ca_certs=FILE",
            true,
        ),
        ErrorKind::IOError(_) => (
            "is a RabbitMQ listening there, and for amqps does it show a certificate?",
            false,
        ),
        _ => ("the broker's log may say more", false),
    }
}

/// The pauses between tries, for [`jittered`](Backoff::jittered).
pub(super) const BACKOFF: Backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
