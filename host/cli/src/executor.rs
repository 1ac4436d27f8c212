//! The executor that a command's future runs on.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Builder;

use crate::exit::Result;

/// Patience with what still blocks a thread when a command has ended: a folder on a server that is gone, a name that
/// nobody resolves. All that must end before the process does is awaited by the command itself.
const BLOCKED_LIMIT: Duration = Duration::from_secs(2);

/// Runs a command's future on threads of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("can't start threads")?;
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(BLOCKED_LIMIT);
    output
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_stays_blocked_keeps_no_command() {
        let (stays, blocked) = mpsc::channel::<()>();
        block_on(async {
            let (begun, begins) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begun.send(());
                let _ = blocked.recv();
            });
            begins.await.map_err(anyhow::Error::from)?;
            Ok(())
        })
        .unwrap();
        stays.send(()).expect("it is blocked still");
    }
}
