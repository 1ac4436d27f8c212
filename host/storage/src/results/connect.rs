use std::sync::Arc;
use std::time::Duration;

use petiole_celery::plan::ResultMode;
use petiole_permits::ServiceUrl;
use petiole_tls::blocking;

use super::address::Address;
use super::backend::ResultBackend;
use super::error::ResultError;
use crate::redis::results::RedisBackend;
use crate::sqlite::results::SqliteBackend;

/// The destination of results.
#[derive(Clone)]
pub enum Results {
    /// Kept by a backend.
    Backend(Arc<dyn ResultBackend>),
    /// Sent to the request's `reply_to`.
    Reply,
    /// Dropped.
    Disabled,
}

/// The plan's mode for a URL, without connecting: it is read by the parser of [`Results::connect`].
///
/// # Errors
/// [`ResultError::Url`], with the reason and without passwords.
pub fn mode(url: &ServiceUrl) -> Result<ResultMode, ResultError> {
    Ok(match address(url)? {
        Address::Redis(_) | Address::Sqlite(_) => ResultMode::Stored,
        Address::Reply => ResultMode::Reply,
        Address::Disabled => ResultMode::Disabled,
    })
}

/// Checks that the certificates named in a URL can be read.
///
/// # Errors
/// [`ResultError::Url`]: the first file that can't be used, and why.
pub fn check_files(url: &ServiceUrl) -> Result<(), ResultError> {
    match address(url)? {
        Address::Redis(server) => server.check_files().map_err(|reason| wrong(url, reason)),
        Address::Sqlite(_) | Address::Reply | Address::Disabled => Ok(()),
    }
}

fn wrong(url: &ServiceUrl, reason: String) -> ResultError {
    ResultError::Url {
        url: url.to_string(),
        reason,
    }
}

fn address(url: &ServiceUrl) -> Result<Address, ResultError> {
    Address::parse(url).map_err(|reason| wrong(url, reason))
}

impl Results {
    /// Opens the destination that a URL names: `redis://`, `rediss://`, `redis+socket://`, `sentinel://`,
    /// `sqlite://PATH`, `rpc://` or `disabled://`. `expires` is Celery's `result_expires`, in whole seconds, rounded
    /// up; zero keeps results for ever.
    ///
    /// # Errors
    /// If the URL can't be read, or the backend refuses or doesn't answer within
    /// [`BACKEND_WAIT`](super::BACKEND_WAIT).
    pub async fn connect(url: &ServiceUrl, expires: Duration) -> Result<Self, ResultError> {
        let named = url.clone();
        blocking(move || check_files(&named)).await?;
        Ok(match address(url)? {
            Address::Redis(server) => Self::Backend(Arc::new(
                RedisBackend::connect(url.to_string(), *server, expires).await?,
            )),
            Address::Sqlite(path) => Self::Backend(Arc::new(
                SqliteBackend::open(url.to_string(), path, expires).await?,
            )),
            Address::Reply => Self::Reply,
            Address::Disabled => Self::Disabled,
        })
    }

    /// The plan's mode for these results.
    pub fn mode(&self) -> ResultMode {
        match self {
            Self::Backend(_) => ResultMode::Stored,
            Self::Reply => ResultMode::Reply,
            Self::Disabled => ResultMode::Disabled,
        }
    }

    /// The backend, where results are kept.
    pub fn backend(&self) -> Option<&Arc<dyn ResultBackend>> {
        match self {
            Self::Backend(backend) => Some(backend),
            Self::Reply | Self::Disabled => None,
        }
    }
}

impl std::fmt::Debug for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Results").field(&self.mode()).finish()
    }
}
