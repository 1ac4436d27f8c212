//! Takes connections, within limits, and serves HTTP on them. A client that is slow or holds many connections
//! keeps no other one waiting.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::tls::{self, Tls};
use crate::door::{Peer, network};

/// Open connections, those in a TLS handshake included; further ones wait in the system's queue.
const CONNECTIONS: usize = 512;

/// Those of one address; further ones are closed at once. While few are free it is half of those, so that a few
/// addresses do not take all, but never fewer than the second number.
const CONNECTIONS_OF_ONE: usize = 128;
const CONNECTIONS_AT_LEAST: usize = 4;

/// The time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The time for a request's head to come in, and for an idle connection.
const HEAD: Duration = Duration::from_secs(15);

/// The largest head of a request, in bytes: its path and its token are the longest of it.
const MAX_HEAD: usize = 16 << 10;

/// The life of a connection, however slowly its client reads; then its last answer has as long again.
const LIFETIME: Duration = Duration::from_secs(600);

/// The time for open requests at shutdown.
const CLOSING: Duration = Duration::from_secs(5);

/// The pause where the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`.
pub(super) async fn serve(
    router: Router,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept(router, listener, tls.clone(), &connections, &shutdown) => {}
        () = follow(tls.as_deref()) => {}
        () = shutdown.cancelled() => {}
    }
    connections.close();
    // Connections that are cut off then have been told to end since the shutdown began.
    let _ = tokio::time::timeout(CLOSING, connections.wait()).await;
}

async fn follow(tls: Option<&Tls>) {
    match tls {
        Some(tls) => tls.follow().await,
        None => std::future::pending().await,
    }
}

async fn accept(
    router: Router,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shares = Arc::new(Shares::default());
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "petiole", "http api: can't take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let free = places.available_permits();
        let Some(share) = Shares::take(&shares, network(address.ip()), free) else {
            continue;
        };
        let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
        connections.spawn(async move {
            let _held = (place, share);
            connection(stream, address, tls.as_deref(), router, shutdown).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<&Tls>,
    router: Router,
    shutdown: CancellationToken,
) {
    // An answer is one write: nothing to gain from waiting for more.
    let _ = stream.set_nodelay(true);
    let mut peer = Peer {
        address: address.ip().to_canonical(),
        certificate: None,
    };
    let Some(tls) = tls else {
        return Box::pin(http(stream, peer, router, shutdown)).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await;
    let stream = match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(target: "petiole", "http api: tls with {}: {error}", peer.address);
            return;
        }
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    peer.certificate = certificate.map(|certificate| tls::subject(certificate).into());
    Box::pin(http(stream, peer, router, shutdown)).await;
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
) {
    let address = peer.address;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let last_answer = tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(target: "petiole", "http api: connection of {address}: {error}");
            }
            return;
        }
        () = shutdown.cancelled() => CLOSING,
        () = tokio::time::sleep(LIFETIME) => LIFETIME,
    };
    connection.as_mut().graceful_shutdown();
    // Whoever has not read its answer by then does not get it.
    let _ = tokio::time::timeout(last_answer, connection).await;
}

/// The number of connections of each address.
#[derive(Debug, Default)]
struct Shares(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
struct Share {
    of: Arc<Shares>,
    address: IpAddr,
}

impl Shares {
    /// Takes one more for this address, with `free` of them left for all.
    fn take(shares: &Arc<Self>, address: IpAddr, free: usize) -> Option<Share> {
        let most = (free / 2).clamp(CONNECTIONS_AT_LEAST, CONNECTIONS_OF_ONE);
        let mut open = shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Share {
            of: Arc::clone(shares),
            address,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(self.address) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_nothing_is_kept_of_it() {
        let shares = Arc::new(Shares::default());
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let taken: Vec<_> = (0..CONNECTIONS_OF_ONE + 5)
            .filter_map(|_| Shares::take(&shares, one, CONNECTIONS))
            .collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ONE);
        assert!(Shares::take(&shares, other, CONNECTIONS).is_some());
        drop(taken);
        assert!(shares.0.lock().is_ok_and(|open| open.is_empty()));
    }

    #[test]
    fn a_few_addresses_do_not_take_all() {
        let shares = Arc::new(Shares::default());
        let mut taken = Vec::new();
        for address in 1..=10 {
            let before = taken.len();
            for _ in 0..CONNECTIONS {
                // One place of those that are free is the newcomer's.
                let free = CONNECTIONS - taken.len() - 1;
                taken.extend(Shares::take(&shares, [10, 0, 0, address].into(), free));
            }
            let got = taken.len() - before;
            assert!(got >= CONNECTIONS_AT_LEAST, "address {address}: {got}");
        }
        assert!(taken.len() < CONNECTIONS, "there is room for another one");
    }
}
