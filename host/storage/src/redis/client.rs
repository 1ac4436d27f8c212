//! One connection to Redis, with many commands in flight; replaced when it breaks.

use std::error::Error;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use petiole_permits::Backoff;
use petiole_tls::is_untrusted;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::{Instant, sleep, timeout_at};

use super::server::Server;

/// Time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the answer to one command; a connection that takes longer counts as dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands queued for the connection; further callers wait for room.
const PIPELINE_DEPTH: usize = 1024;
/// Pauses between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Time in which attempts to connect may begin, for a command that is sent only once.
const RECONNECT_WAIT: Duration = Duration::from_secs(1);

/// A command that is not known to have been carried out.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No answer in time; there may be one later.
    Away(Box<dyn Error + Send + Sync>),
    /// Redis says that it won't.
    Refused(RedisError),
}

/// The connection to a server.
pub(crate) struct Client {
    server: Server,
    wait: Duration,
    slot: Mutex<Slot>,
    /// Held by the one who connects.
    connecting: tokio::sync::Mutex<()>,
}

/// The connection in use. The number tells a connection that broke from the one that replaced it.
#[derive(Default)]
struct Slot {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl Client {
    /// Connects with the first command. `wait` is the time for an answer, reconnecting as needed.
    pub(crate) fn new(server: Server, wait: Duration) -> Self {
        Self {
            server,
            wait,
            slot: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn key_prefix(&self) -> &str {
        self.server.key_prefix()
    }

    /// Carries out a command that may be repeated, reconnecting as needed, until it is answered or the wait is over.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        command: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, Unanswered> {
        let deadline = Instant::now() + self.wait;
        insist(deadline, deadline, || self.attempt(&command)).await
    }

    async fn attempt<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        command: &impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, RedisError> {
        let (number, connection) = self.connection().await?;
        self.watch(number, command(connection)).await
    }

    /// Sends a command once, as soon as there is a connection.
    pub(crate) async fn ask_once<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, Unanswered> {
        let now = Instant::now();
        let deadline = now + self.wait;
        let connected = insist(now + RECONNECT_WAIT, deadline, || self.connection());
        let (number, connection) = connected.await?;
        match timeout_at(deadline, self.watch(number, command(connection))).await {
            Ok(answer) => answer.map_err(|error| match is_passing(&error) {
                true => Unanswered::Away(error.into()),
                false => Unanswered::Refused(error),
            }),
            Err(elapsed) => {
                self.discard(number);
                Err(Unanswered::Away(elapsed.into()))
            }
        }
    }

    /// Waits for an answer, and discards the connection if its error shows that it is of no more use.
    async fn watch<T>(
        &self,
        number: u64,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        let answer = answer.await;
        // A demoted primary answers READONLY until the client connects to the new one.
        if let Err(error) = &answer
            && (is_passing(error) || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly))
        {
            self.discard(number);
        }
        answer
    }

    /// The connection in use. The first caller to find none connects, while the others wait.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(in_use) = self.in_use() {
            return Ok(in_use);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(in_use) = self.in_use() {
            return Ok(in_use);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(PIPELINE_DEPTH);
        let connection = self.server.connect(&config).await?;
        let mut slot = self.slot();
        slot.number += 1;
        slot.connection = Some(connection.clone());
        Ok((slot.number, connection))
    }

    fn in_use(&self) -> Option<(u64, MultiplexedConnection)> {
        let slot = self.slot();
        Some((slot.number, slot.connection.clone()?))
    }

    /// Waits for nobody: a command whose time is up does so too.
    fn discard(&self, number: u64) {
        let mut slot = self.slot();
        if slot.number == number {
            slot.connection = None;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Retries after errors that pass: new attempts begin before `until`, and the last one ends by `deadline`.
async fn insist<T, F: Future<Output = Result<T, RedisError>>>(
    until: Instant,
    deadline: Instant,
    attempt: impl Fn() -> F,
) -> Result<T, Unanswered> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut last = None;
    loop {
        let error = match timeout_at(deadline, attempt()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !is_passing(&error) => return Err(Unanswered::Refused(error)),
            Ok(Err(error)) => error,
            // Time ran out in the middle of an attempt: the error of the one before says what is wrong.
            Err(_) => last
                .take()
                .unwrap_or_else(|| io::Error::from(io::ErrorKind::TimedOut).into()),
        };
        let pause = backoff.pause();
        if Instant::now() + pause >= until {
            return Err(Unanswered::Away(error.into()));
        }
        tracing::debug!(%error, "trying Redis again");
        last = Some(error);
        sleep(pause).await;
    }
}

/// True if the same command may succeed in a moment, on another connection.
fn is_passing(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, TryAgain};
    if is_untrusted(error) {
        return false;
    }
    matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            // a sentinel says so too while it looks for a new primary
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | TryAgain)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_passes() {
        let kind = ErrorKind::MasterNameNotFoundBySentinel;
        assert!(is_passing(&(kind, "no primary").into()));
    }
}
