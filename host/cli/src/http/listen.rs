//! Where the API listens, and whom it lets in.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;

use super::access::Tokens;
use super::router::Gate;
use super::tls::{Tls, TlsFiles};
use crate::config::Resolved;
use crate::exit::{Failure, Result};

/// An API that is ready to serve.
pub(crate) struct Listening {
    /// Bound.
    pub listener: TcpListener,
    /// Where it is reached from this machine: `http://127.0.0.1:8000`.
    pub url: String,
    /// A token that was made up here, so that others have to be told.
    pub generated: Option<String>,
    /// Whom it lets in.
    pub gate: Gate,
    /// None for plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

/// Where `petiole dev` listens when no setting says otherwise.
pub(crate) const DEV: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Binds the address that is configured or, where it is none, `or`: another free port of it if need be.
pub(crate) async fn listen(config: &Resolved, or: Option<SocketAddr>) -> Result<Option<Listening>> {
    check(config)?;
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
    let tls = tls(config)?;
    let has_tokens = config.http_token.value.is_some() || !config.http.tokens.value.is_empty();
    let generated = (!has_tokens).then(generate);
    let one = generated.as_ref().or(config.http_token.value.as_ref());
    let gate = Gate::new(
        Tokens::new(&config.http.tokens.value, one.map(String::as_str)),
        config.http.rate.value,
        tls.as_ref().is_some_and(|tls| tls.wants_certificates()),
        config.http.open_metrics.value,
    );
    let reached = if addr.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port())
    } else {
        addr
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    Ok(Some(Listening {
        listener,
        url: format!("{scheme}://{reached}"),
        generated,
        gate,
        tls,
    }))
}

/// Whether the API can be served as it is configured: what can be told before the address is taken.
pub(crate) fn check(config: &Resolved) -> Result<()> {
    let Some(addr) = config.http_addr.value else {
        return Ok(());
    };
    if !addr.ip().is_loopback() {
        check_reachable(config, addr)?;
    }
    tls(config).map(drop)
}

/// What other machines can reach needs a token, and TLS: what goes over the network in plain HTTP, tokens too,
/// others can read and change.
fn check_reachable(config: &Resolved, addr: SocketAddr) -> Result<()> {
    let origin = &config.http_addr.origin;
    if config.http_token.value.is_none() && config.http.tokens.value.is_empty() {
        return Err(Failure::usage(anyhow!(
            "{origin}: the HTTP API on {addr} can be reached from other machines and has no token: set PETIOLE_TOKEN, or http.token or \
             http.tokens in petiole.toml (`petiole token` makes one), or listen on 127.0.0.1"
        )));
    }
    if config.http.cert.value.is_none() && !config.http.plain.value {
        return Err(Failure::usage(anyhow!(
            "{origin}: the HTTP API on {addr} can be reached from other machines and is not encrypted: set http.tls.cert and \
             http.tls.key, or listen on 127.0.0.1; or, where something in front of it does TLS or the network is trusted, \
             set http.plain = true"
        )));
    }
    Ok(())
}

fn tls(config: &Resolved) -> Result<Option<Arc<Tls>>> {
    let (Some(cert), Some(key)) = (&config.http.cert.value, &config.http.key.value) else {
        return Ok(None);
    };
    let files = TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
        client_ca: config.http.client_ca.value.clone(),
    };
    let tls = Tls::load(files)
        .context("http.tls")
        .map_err(Failure::usage)?;
    Ok(Some(Arc::new(tls)))
}

/// 244 random bits from the system's generator.
pub(crate) fn generate() -> String {
    let part = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", part(), part())
}
