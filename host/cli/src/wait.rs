//! Servers that are not up when a worker starts are waited for, as Celery's worker does
//! (<https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-connection-retry-on-startup>).

use std::error::Error;
use std::time::Duration;

use tokio::time::sleep;

/// Celery's default of `broker_connection_max_retries`.
const ATTEMPTS: u32 = 100;
/// The growth of each pause over the one before: kombu's `interval_step`.
const STEP: Duration = Duration::from_secs(2);
/// kombu's `interval_max`.
const LONGEST: Duration = Duration::from_secs(30);

/// Connects, again and again while the error says that the server may come up yet.
pub(crate) async fn until_up<T, E: Error, F: Future<Output = Result<T, E>>>(
    connect: impl Fn() -> F,
    may_come_up: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for (attempt, pause) in (1..).zip(pauses()) {
        match connect().await {
            Err(error) if may_come_up(&error) => {
                warn(&error, attempt, pause);
                sleep(pause).await;
            }
            ended => return ended,
        }
    }
    connect().await
}

fn warn(error: &impl Error, attempt: u32, pause: Duration) {
    let cause = error.source().map(tracing::field::display);
    let pause = pause.as_secs();
    tracing::warn!(target: "petiole", cause, "{error}; trying again in {pause} s ({attempt}/{ATTEMPTS})");
}

/// The pauses between the attempts.
fn pauses() -> impl Iterator<Item = Duration> {
    (1..ATTEMPTS).map(|attempt| LONGEST.min(STEP * attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_of_celery() {
        let all: Vec<_> = pauses().map(|pause| pause.as_secs()).collect();
        assert_eq!(all.len(), 99);
        assert_eq!(all.get(..3), Some(&[2, 4, 6][..]));
        assert_eq!(
            all.get(13..),
            Some(&[28].into_iter().chain([30; 85]).collect::<Vec<_>>()[..])
        );
    }
}
