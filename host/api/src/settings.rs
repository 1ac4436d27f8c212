use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::door::TokenEntry;

/// The settings of an API: `[http]` in petiole.toml.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on.
    pub addr: SocketAddr,
    /// Another port will do where that one is taken.
    pub any_port: bool,
    /// A token that opens everything.
    pub token: Option<String>,
    /// The other tokens. Where there is none at all, one is made up.
    pub tokens: Vec<TokenEntry>,
    /// None for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Other machines may be served without TLS.
    pub plain: bool,
    /// Requests per second, of each token and of each address that shows none.
    pub rate: NonZeroU32,
    /// `/metrics` needs no token.
    pub open_metrics: bool,
}

/// The PEM files of TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; without them, none is asked for.
    pub client_ca: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn has_tokens(&self) -> bool {
        self.token.is_some() || !self.tokens.is_empty()
    }
}
