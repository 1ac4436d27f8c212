//! The network as tasks reach it: names, trust, and each module's part of it.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::TlsConnector;

/// Names that the whole worker resolves at once: each takes a thread that can't be interrupted.
const LOOKUPS_AT_ONCE: usize = 64;
/// Those of one module, whose names may be as slow as it likes.
const LOOKUPS_PER_MODULE: usize = 8;

/// Finds the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync + Debug {
    /// The addresses of a host name, in the order in which to try them.
    ///
    /// # Errors
    /// When there are none, or nobody to ask.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Names and trust of all of a worker's tasks.
#[derive(Debug)]
pub struct Network {
    resolver: Arc<dyn Resolver>,
    tls: Tls,
}

/// The authorities to trust. The machine's roots are read at the first need.
struct Tls(OnceCell<TlsConnector>);

/// The operating system's resolver.
#[derive(Debug)]
struct SystemResolver {
    free: Arc<Semaphore>,
}

impl Network {
    /// The machine's resolver, and the roots that it trusts (or those of `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`).
    pub fn system() -> Self {
        Self {
            resolver: Arc::new(SystemResolver {
                free: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)),
            }),
            tls: Tls(OnceCell::new()),
        }
    }

    /// Another resolver, and the roots to trust.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(resolver: Arc<dyn Resolver>, roots: RootCertStore) -> Result<Self, rustls::Error> {
        Ok(Self {
            resolver,
            tls: Tls(OnceCell::new_with(Some(connector(roots)?))),
        })
    }

    pub(crate) async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.resolver.resolve(name).await
    }

    pub(crate) async fn tls(&self) -> io::Result<&TlsConnector> {
        self.tls.connector().await
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        let name = name.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            // held until the thread is free again, whoever waits for it
            let _permit = permit;
            let addresses = (name.as_str(), 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

impl Tls {
    async fn connector(&self) -> io::Result<&TlsConnector> {
        self.0
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(|| {
                    let roots = roots(rustls_native_certs::load_native_certs())?;
                    connector(roots).map_err(io::Error::other)
                })
                .await
                .map_err(io::Error::other)?
            })
            .await
    }
}

/// Without roots there is nobody to trust: that is the machine's fault, not the server's, and may pass.
fn roots(found: CertificateResult) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (trusted, unreadable) = roots.add_parsable_certificates(found.certs);
    if trusted > 0 {
        return Ok(roots);
    }
    let cause = found
        .errors
        .first()
        .map(|error| format!(": {error}"))
        .unwrap_or_default();
    Err(io::Error::other(format!(
        "the machine has no root certificate to trust ({unreadable} are unreadable){cause}"
    )))
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Debug for Tls {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The network for the tasks of one module.
pub(crate) struct ModuleNetwork {
    pub(super) network: Arc<Network>,
    /// Connections that each task may have at once.
    pub(super) connections: usize,
    /// One permit for each name that its tasks look up at once.
    pub(super) lookups: Arc<Semaphore>,
    /// Some of its tasks may send requests.
    pub(super) http: bool,
}

impl ModuleNetwork {
    /// `connections`: that each task may have at once. `http`: whether any of them may send requests.
    pub(crate) fn new(network: Arc<Network>, connections: usize, http: bool) -> Self {
        Self {
            network,
            connections,
            lookups: Arc::new(Semaphore::new(LOOKUPS_PER_MODULE)),
            http,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_roots_are_an_error() {
        let error = roots(CertificateResult::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the machine has no root certificate to trust (0 are unreadable)"
        );
    }
}
