//! The worker's HTTP API: whom it serves, and how.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use petiole_api::TokenEntry;

use super::error::ConfigError;
use super::key::settings;
use super::setting::Setting;

/// Requests per second that one token, and one address, may send unless told.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// The most tokens: each is compared with what a request brings.
const MAX_TOKENS: usize = 1000;

/// The shortest token that the API takes: 16 characters.
const MIN_TOKEN: usize = 16;

settings! {
    /// The worker's HTTP API.
    HttpSettings with origins {
        /// The address that it listens on; none for no API.
        addr: Option<SocketAddr> = None,
            Plain "http.addr" ["PETIOLE_HTTP"] "--http";
        /// A token that opens everything. Has no flag: other users of the machine can read a command line.
        token: Option<String> = None,
            Secret "http.token" ["PETIOLE_TOKEN"];
        /// Tokens with scopes.
        tokens: Vec<TokenEntry> = Vec::new(),
            Plain "http.tokens" [];
        /// The certificate: a PEM file.
        cert: Option<PathBuf> = None,
            Plain "http.tls.cert" ["PETIOLE_HTTP_CERT"];
        /// Its private key.
        key: Option<PathBuf> = None,
            Plain "http.tls.key" ["PETIOLE_HTTP_KEY"];
        /// The authority of the clients' certificates: a PEM file.
        client_ca: Option<PathBuf> = None,
            Plain "http.tls.client_ca" ["PETIOLE_HTTP_CLIENT_CA"];
        /// True if other machines may be served without TLS.
        plain: bool = false,
            Plain "http.plain" ["PETIOLE_HTTP_PLAIN"];
        /// Requests per second, of each token and of each address.
        rate: NonZeroU32 = RATE,
            Plain "http.rate" ["PETIOLE_HTTP_RATE"];
        /// True if `/metrics` needs no token.
        open_metrics: bool = true,
            Plain "http.open_metrics" ["PETIOLE_HTTP_OPEN_METRICS"];
        /// The file of the audit.
        audit: Option<PathBuf> = None,
            Plain "audit" ["PETIOLE_AUDIT"];
    }
}

impl Setting for Vec<TokenEntry> {}

impl HttpSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |path, reason: String| Err(self.origins.wrong(path, reason));
        let token = self.token.as_deref();
        if token.is_some_and(|token| token.len() < MIN_TOKEN) {
            return wrong(
                "http.token",
                format!("http.token is shorter than {MIN_TOKEN} characters: others could guess it"),
            );
        }
        check_tokens(&self.tokens).or_else(|reason| wrong("http.tokens", reason))?;
        self.origins.check_both(
            ("http.tls.cert", self.cert.is_some()),
            ("http.tls.key", self.key.is_some()),
        )?;
        if self.client_ca.is_some() && self.cert.is_none() {
            return wrong(
                "http.tls.client_ca",
                "http.tls.client_ca asks for clients' certificates, and there is no TLS: set http.tls.cert and http.tls.key"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn check_tokens(tokens: &[TokenEntry]) -> Result<(), String> {
    if tokens.len() > MAX_TOKENS {
        return Err(format!(
            "http.tokens: {} are more than {MAX_TOKENS}",
            tokens.len()
        ));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for token in tokens {
        check_token_name(&token.name)?;
        if token.scopes.is_empty() {
            return Err(format!(
                "http.tokens: {} opens nothing: give it scopes, some of upload, read, send, admin",
                token.name
            ));
        }
        if !names.insert(&token.name) {
            return Err(format!("http.tokens: {} is there twice", token.name));
        }
        if !digests.insert(token.sha256) {
            return Err(format!(
                "http.tokens: {} is the same token as another one",
                token.name
            ));
        }
    }
    Ok(())
}

/// A token's name is shown in the audit and by `petiole modules show`.
pub(crate) fn check_token_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-@/".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_good) {
        return Err(format!(
            "{name:?} is not a token's name: at most 64 letters, digits and . _ - @ /"
        ));
    }
    Ok(())
}
