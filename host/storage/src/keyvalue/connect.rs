use std::error::Error;
use std::sync::Arc;

use petiole_permits::{KeyValue, KeyValueError, ServiceUrl};
use petiole_tls::blocking;

use super::ANSWER_WAIT;
use super::address::Address;
use crate::redis::keyvalue::RedisStore;
use crate::sqlite::keyvalue::SqliteStore;

/// The storage can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is wrong: trying again won't help.
    #[error(
        "key-value storage {url:?}: {reason}; what there is: \
         redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+socket:///PATH, sqlite://PATH"
    )]
    Url {
        /// The URL, its password hidden.
        url: String,
        /// The reason.
        reason: String,
    },
    /// No answer; it may be back later.
    #[error("key-value storage {url} gave no answer within {} s", ANSWER_WAIT.as_secs())]
    Unreachable {
        /// The URL, its password hidden.
        url: String,
        /// The error of the attempt.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It answers that it won't: wrong password, no such folder.
    #[error("key-value storage {url} refuses")]
    Refused {
        /// The URL, its password hidden.
        url: String,
        /// Its answer.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Checks that [`connect`] can read a URL, by the same parser.
///
/// # Errors
/// [`ConnectError::Url`], with the reason and without passwords.
pub fn check(url: &ServiceUrl) -> Result<(), ConnectError> {
    address(url).map(drop)
}

fn address(url: &ServiceUrl) -> Result<Address, ConnectError> {
    Address::parse(url).map_err(|reason| wrong(url, reason))
}

/// Checks that the certificates named in a URL can be read.
///
/// # Errors
/// [`ConnectError::Url`]: the first file that can't be used, and why.
pub fn check_files(url: &ServiceUrl) -> Result<(), ConnectError> {
    match address(url)? {
        Address::Redis(server) => server.check_files().map_err(|reason| wrong(url, reason)),
        Address::Sqlite(_) => Ok(()),
    }
}

fn wrong(url: &ServiceUrl, reason: String) -> ConnectError {
    ConnectError::Url {
        url: url.to_string(),
        reason,
    }
}

/// Opens the storage that a URL names: `redis://`, `rediss://`, `redis+socket://PATH` or `sqlite://PATH`.
///
/// # Errors
/// If the URL can't be read, or the storage refuses or gives no answer within [`ANSWER_WAIT`].
pub async fn connect(url: &ServiceUrl) -> Result<Arc<dyn KeyValue>, ConnectError> {
    let named = url.clone();
    blocking(move || check_files(&named)).await?;
    let name = url.to_string();
    let opened: Result<Arc<dyn KeyValue>, _> = match address(url)? {
        Address::Redis(server) => match RedisStore::connect(*server).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(error),
        },
        Address::Sqlite(path) => match SqliteStore::open(path).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(error),
        },
    };
    opened.map_err(|error| match error {
        KeyValueError::Unreachable(source) => ConnectError::Unreachable { url: name, source },
        KeyValueError::Refused(source) => ConnectError::Refused { url: name, source },
        other @ (KeyValueError::TooLarge { .. }
        | KeyValueError::NotCountable
        | KeyValueError::Cursor(_)) => ConnectError::Refused {
            url: name,
            source: other.into(),
        },
    })
}
