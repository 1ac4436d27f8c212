//! The address of the API, and its gate.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::tls::{Tls, TlsError};
use crate::door::generate_token;
use crate::settings::Settings;
use crate::state::Gate;

/// An API that is ready to serve.
pub struct Listening {
    pub(super) listener: TcpListener,
    /// Its address from this machine: `http://127.0.0.1:8000`.
    pub(super) url: String,
    /// A token that was made up here, so that others have to be told.
    pub(super) generated: Option<String>,
    pub(super) gate: Gate,
    /// None for plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
}

/// An API can't be served as it is configured, or its address is taken.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Anybody could use it.
    #[error(
        "the HTTP API on {0} can be reached from other machines and has no token: set PETIOLE_TOKEN, or http.token or \
         http.tokens in petiole.toml (`petiole token` makes one), or listen on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// Others can read and change plain HTTP, tokens too.
    #[error(
        "the HTTP API on {0} can be reached from other machines and is not encrypted: set http.tls.cert and \
         http.tls.key, or listen on 127.0.0.1; or, where something in front of it does TLS or the network is trusted, \
         set http.plain = true"
    )]
    NotEncrypted(SocketAddr),
    /// The certificates can't be used.
    #[error("http.tls")]
    Tls(#[from] TlsError),
    /// The system refuses the address.
    #[error("can't listen on {addr} (--http)")]
    Bind {
        /// As it was configured.
        addr: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
}

/// Binds the address.
///
/// # Errors
/// When it can't be bound, or [`check`] fails.
pub async fn listen(mut settings: Settings) -> Result<Listening, ListenError> {
    let tls = checked(&settings)?;
    let addr = settings.addr;
    let failed = |source| ListenError::Bind { addr, source };
    let listener = match TcpListener::bind(addr).await {
        Err(error) if settings.any_port && error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(addr.ip(), 0)).await
        }
        bound => bound,
    };
    let listener = listener.map_err(failed)?;
    let mut reached = listener.local_addr().map_err(failed)?;
    if reached.ip().is_unspecified() {
        reached.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let generated = (!settings.has_tokens()).then(generate_token);
    settings.token = generated.clone().or(settings.token);
    let scheme = if tls.is_some() { "https" } else { "http" };
    Ok(Listening {
        listener,
        url: format!("{scheme}://{reached}"),
        generated,
        gate: Gate::new(&settings),
        tls: tls.map(Arc::new),
    })
}

/// Checks that the API can be served as it is configured, as far as can be told before the address is taken.
///
/// # Errors
/// When other machines can reach it and it has no token or no TLS, or the files of TLS can't be used.
pub fn check(settings: &Settings) -> Result<(), ListenError> {
    checked(settings).map(drop)
}

fn checked(settings: &Settings) -> Result<Option<Tls>, ListenError> {
    let addr = settings.addr;
    if !addr.ip().is_loopback() {
        if !settings.has_tokens() {
            return Err(ListenError::NoToken(addr));
        }
        if settings.tls.is_none() && !settings.plain {
            return Err(ListenError::NotEncrypted(addr));
        }
    }
    let tls = settings.tls.clone().map(Tls::load);
    Ok(tls.transpose()?)
}
