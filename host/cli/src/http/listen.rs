//! Where the API listens, and the token that it wants.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;

use crate::config::Resolved;
use crate::exit::{Failure, Result};

/// An API that is ready to serve.
pub(crate) struct Listening {
    /// Bound.
    pub listener: TcpListener,
    /// Where it is reached from this machine: `http://127.0.0.1:8000`.
    pub url: String,
    /// What requests must carry.
    pub token: String,
    /// Whether the token was made up here, so that others have to be told.
    pub generated: bool,
}

/// Where `petiole dev` listens when no setting says otherwise.
pub(crate) const DEV: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Binds the address that is configured or, where it is none, `or`: another free port of it if need be.
pub(crate) async fn listen(config: &Resolved, or: Option<SocketAddr>) -> Result<Option<Listening>> {
    let (listener, addr) = match (config.http_addr.value, or) {
        (None, None) => return Ok(None),
        (Some(addr), _) => (TcpListener::bind(addr).await, addr),
        (None, Some(addr)) => match TcpListener::bind(addr).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                (TcpListener::bind(SocketAddr::new(addr.ip(), 0)).await, addr)
            }
            bound => (bound, addr),
        },
    };
    let listener = listener.with_context(|| format!("can't listen on {addr} (--http)"))?;
    let addr = listener
        .local_addr()
        .with_context(|| format!("can't listen on {addr} (--http)"))?;
    let (token, generated) = match &config.http_token.value {
        Some(token) => (token.clone(), false),
        None if addr.ip().is_loopback() => (generate(), true),
        None => {
            return Err(Failure::usage(anyhow!(
                "the HTTP API on {addr} can be reached from other machines and has no token: set PETIOLE_TOKEN, or http.token \
                 in petiole.toml, or listen on 127.0.0.1"
            )));
        }
    };
    let reached = if addr.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port())
    } else {
        addr
    };
    Ok(Some(Listening {
        listener,
        url: format!("http://{reached}"),
        token,
        generated,
    }))
}

/// 244 random bits from the system's generator.
fn generate() -> String {
    let part = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", part(), part())
}
