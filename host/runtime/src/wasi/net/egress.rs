//! One task's way out: names resolved once, every address checked, and a checked address dialled.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use petiole_permits::{Host, Redactor, is_public};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::granted::Granted;
use crate::limits::meter::Meter;
use crate::log::escape::escaped;
use crate::wasi::net::network::{ModuleNetwork, Network};

/// The time that a name may take to resolve.
const MAX_LOOKUP: Duration = Duration::from_secs(10);
/// The time that one address may take to answer, before the next one is tried.
const MAX_ATTEMPT: Duration = Duration::from_secs(10);
/// The addresses of a name that are tried, in the resolver's order.
const MAX_ADDRESSES: usize = 8;

/// The names that one task may wait for at once.
const LOOKUPS_PER_TASK: usize = 2;
/// Refusals of one task that are logged,
const MAX_WARNINGS: u32 = 20;
/// and what is logged of each, in bytes: the guest chooses names and methods.
const MAX_WARNING: usize = 512;

/// The reason why there is no address to dial.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// The resolver knows none.
    Failed,
    /// The resolver did not answer.
    TimedOut,
    /// There are some, and none that may be reached.
    Prohibited,
}

/// One task's way out.
pub(crate) struct Egress {
    pub(crate) granted: Arc<Granted>,
    pub(crate) meter: Arc<Meter>,
    /// One permit for each connection.
    pub(crate) connections: Arc<Semaphore>,
    network: Arc<Network>,
    lookups: Semaphore,
    lookups_of_module: Arc<Semaphore>,
    task_id: String,
    warnings: AtomicU32,
}

impl Egress {
    /// None where the task has no use for it: it is granted no TCP, and its module has no `wasi:http`.
    pub(crate) fn new(
        network: &ModuleNetwork,
        granted: &Arc<Granted>,
        meter: &Arc<Meter>,
        task_id: &str,
    ) -> Option<Arc<Self>> {
        if !network.http && granted.tcp.is_empty() {
            return None;
        }
        Some(Arc::new(Self {
            granted: Arc::clone(granted),
            meter: Arc::clone(meter),
            connections: Arc::new(Semaphore::new(network.connections)),
            network: Arc::clone(&network.network),
            lookups: Semaphore::new(LOOKUPS_PER_TASK),
            lookups_of_module: Arc::clone(&network.lookups),
            task_id: task_id.to_owned(),
            warnings: AtomicU32::new(0),
        }))
    }

    /// The addresses of a host that a rule names, as far as they may be reached. A literal is its own.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Unresolved> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let lookup = timeout(MAX_LOOKUP, async {
            let _permit = self.lookups.acquire().await;
            self.resolve(name).await
        });
        let found = match lookup.await {
            Err(_elapsed) => return Err(Unresolved::TimedOut),
            Ok(Err(_)) => return Err(Unresolved::Failed),
            Ok(Ok(found)) => found,
        };
        if found.is_empty() {
            return Err(Unresolved::Failed);
        }
        let reachable = reachable(&found, &self.granted.networks);
        if reachable.is_empty() {
            let addresses: Vec<String> = found
                .iter()
                .take(MAX_ADDRESSES)
                .map(IpAddr::to_string)
                .collect();
            self.warn(format_args!(
                "{name} resolves to {}, which is not public: to be reached, its network must be in `networks` of \
                 the worker's [grants]",
                addresses.join(", ")
            ));
            return Err(Unresolved::Prohibited);
        }
        Ok(reachable)
    }

    /// Asks the resolver. That goes on when nobody waits any more, for it can't be interrupted, and counts among
    /// its module's lookups until it has ended.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups_of_module).acquire_owned().await;
        let network = Arc::clone(&self.network);
        let name = name.to_owned();
        let lookup = tokio::spawn(async move {
            let _permit = permit;
            network.resolve(&name).await
        });
        lookup.await.map_err(io::Error::other)?
    }

    /// Connects to the first of the addresses that answers.
    pub(crate) async fn dial(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            match timeout(MAX_ATTEMPT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // small requests must not wait for one another's acks
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// TLS with the host, on a connection to one of its addresses.
    pub(crate) async fn encrypt<S>(&self, host: &Host, stream: S) -> io::Result<TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            Host::Address(address) => ServerName::from(*address),
        };
        let connector = self.network.tls().await;
        let connector = connector.inspect_err(|error| self.warn(format_args!("{error}")))?;
        connector.connect(name, stream).await
    }

    /// Logs a refusal, the first few of them.
    pub(crate) fn warn(&self, refusal: fmt::Arguments<'_>) {
        let before = self.warnings.fetch_add(1, Relaxed);
        let task_id = &self.task_id;
        if before < MAX_WARNINGS {
            let secrets = self.granted.secrets.iter().map(|(_, secret)| secret);
            let refusal = shown(&refusal.to_string(), &Redactor::new(secrets));
            tracing::warn!(target: "petiole", task_id, "{refusal}");
        } else if before == MAX_WARNINGS {
            tracing::warn!(target: "petiole", task_id, "further refusals of the network are not logged");
        }
    }
}

/// First without secrets, so that none is cut in two.
fn shown(refusal: &str, redactor: &Redactor) -> String {
    let refusal = redactor.redact(refusal);
    let end = refusal.floor_char_boundary(MAX_WARNING);
    escaped(refusal.get(..end).unwrap_or_default()).into_owned()
}

/// Those that are public or in a granted network, each once, at most [`MAX_ADDRESSES`]. The others are left
/// out: a name may well have a public and a private address.
fn reachable(found: &[IpAddr], networks: &[IpNet]) -> Vec<IpAddr> {
    let mut reachable = Vec::new();
    for address in found.iter().map(IpAddr::to_canonical) {
        let granted =
            is_public(address) || networks.iter().any(|network| network.contains(&address));
        if granted && !reachable.contains(&address) && reachable.len() < MAX_ADDRESSES {
            reachable.push(address);
        }
    }
    reachable
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_public_and_granted_addresses_are_reachable() {
        let table: &[(&[&str], &[&str], &[&str])] = &[
            (&["93.184.215.14"], &[], &["93.184.215.14"]),
            (&["10.0.0.1"], &[], &[]),
            (&["10.0.0.1"], &["10.0.0.0/8"], &["10.0.0.1"]),
            (&["10.0.0.1"], &["10.1.0.0/16"], &[]),
            (&["::ffff:10.0.0.1"], &["10.0.0.0/8"], &["10.0.0.1"]),
            (&["::ffff:10.0.0.1", "64:ff9b::a00:1"], &[], &[]),
            (&["127.0.0.1", "1.1.1.1", "1.1.1.1"], &[], &["1.1.1.1"]),
            (&["169.254.169.254"], &["10.0.0.0/8"], &[]),
            (&["fd00::1"], &["fd00::/8"], &["fd00::1"]),
        ];
        for (found, networks, expected) in table {
            let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            let found = addresses(found);
            assert_eq!(
                reachable(&found, &networks),
                addresses(expected),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_is_logged_of_a_refusal_is_short_and_plain_and_without_secrets() {
        let secret = "hunter2".into();
        let redactor = Redactor::new([&secret]);
        let begin = "x".repeat(MAX_WARNING - 4);
        for (refusal, expected) in [
            ("a\u{1b}[31m\nb hunter2", "a\\u{1b}[31m\\nb ***".to_owned()),
            (&format!("{begin}hunter2"), format!("{begin}***")),
            (&format!("{begin}xxxé"), format!("{begin}xxx")),
            (&"x".repeat(1 << 20), "x".repeat(MAX_WARNING)),
        ] {
            assert_eq!(shown(refusal, &redactor), expected);
        }
    }

    #[test]
    fn a_name_has_only_so_many_addresses() {
        let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([8, 8, 4, n])).collect();
        assert_eq!(reachable(&many, &[]).len(), MAX_ADDRESSES);
    }
}
