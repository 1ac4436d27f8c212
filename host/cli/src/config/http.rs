//! The settings of the HTTP API and of what comes in over it: tokens, TLS, rates, signatures, the audit. And of
//! its clients.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf, absolute};

use petiole_api::TokenEntry;
use serde::Deserialize;
use toml::Value;

use super::ConfigError;
use super::env::Env;
use super::keys::{Key, no_flag};
use super::layer::{Layers, Setting};
use super::show::{Row, maybe, row};

/// Requests per second that one token, and one address, may send unless told.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// The most tokens: each is compared with what a request brings.
const MAX_TOKENS: usize = 1000;

const TOKENS: Key = no_flag("http.tokens", &[]);
const CERT: Key = no_flag("http.tls.cert", &["PETIOLE_HTTP_CERT"]);
const KEY: Key = no_flag("http.tls.key", &["PETIOLE_HTTP_KEY"]);
const CLIENT_CA: Key = no_flag("http.tls.client_ca", &["PETIOLE_HTTP_CLIENT_CA"]);
const PLAIN: Key = no_flag("http.plain", &["PETIOLE_HTTP_PLAIN"]);
const RATE_KEY: Key = no_flag("http.rate", &["PETIOLE_HTTP_RATE"]);
const OPEN_METRICS: Key = no_flag("http.open_metrics", &["PETIOLE_HTTP_OPEN_METRICS"]);
const AUDIT: Key = no_flag("audit", &["PETIOLE_AUDIT"]);
const API_CA: Key = Key {
    name: "api_ca",
    env: &["PETIOLE_API_CA"],
    flag: Some("--ca"),
};
const API_CERT: Key = no_flag("api_cert", &["PETIOLE_API_CERT"]);
const API_KEY: Key = no_flag("api_key", &["PETIOLE_API_KEY"]);
const SIGNATURE_KEYS: Key = no_flag("signatures.keys", &["PETIOLE_SIGNATURE_KEYS"]);
const SIGNATURES_REQUIRED: Key = no_flag("signatures.required", &["PETIOLE_SIGNATURES_REQUIRED"]);

/// `[http]`: the worker's HTTP API.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenHttp {
    pub addr: Option<SocketAddr>,
    pub token: Option<String>,
    pub tokens: Option<Vec<TokenEntry>>,
    pub tls: WrittenTls,
    pub plain: Option<bool>,
    pub rate: Option<NonZeroU32>,
    pub open_metrics: Option<bool>,
}

/// `[http.tls]`: PEM files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
}

/// `[signatures]`: whose modules are taken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSignatures {
    /// minisign public keys, or files of such.
    pub keys: Option<Vec<String>>,
    pub required: Option<bool>,
}

/// The settings of the API beside its address and its one token of old, resolved.
#[derive(Debug, Clone)]
pub(crate) struct HttpSettings {
    pub tokens: Setting<Vec<TokenEntry>>,
    pub cert: Setting<Option<PathBuf>>,
    pub key: Setting<Option<PathBuf>>,
    pub client_ca: Setting<Option<PathBuf>>,
    /// Whether other machines may be served without TLS.
    pub plain: Setting<bool>,
    /// Requests per second, of each token and of each address.
    pub rate: Setting<NonZeroU32>,
    /// Whether `/metrics` needs no token.
    pub open_metrics: Setting<bool>,
    pub audit: Setting<Option<PathBuf>>,
    pub signature_keys: Setting<Vec<String>>,
    /// Whether modules without a signature are refused.
    pub signatures_required: Setting<bool>,
    pub api_ca: Setting<Option<PathBuf>>,
    pub api_cert: Setting<Option<PathBuf>>,
    pub api_key: Setting<Option<PathBuf>>,
}

/// Whether an entry of `signatures.keys` is a key: 42 bytes in base64, of which the first two say minisign.
/// Everything else is a file.
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with("RW") && text.len() == 56
}

impl super::Written {
    /// Adds the environment's part.
    pub(super) fn with_http_of_env(mut self, env: &mut Env) -> Result<Self, ConfigError> {
        self.http.tls = WrittenTls {
            cert: env.get(&CERT)?,
            key: env.get(&KEY)?,
            client_ca: env.get(&CLIENT_CA)?,
        };
        self.http.plain = env.get(&PLAIN)?;
        self.http.rate = env.get(&RATE_KEY)?;
        self.http.open_metrics = env.get(&OPEN_METRICS)?;
        self.signatures = WrittenSignatures {
            keys: env.list(&SIGNATURE_KEYS)?,
            required: env.get(&SIGNATURES_REQUIRED)?,
        };
        self.audit = env.get(&AUDIT)?;
        self.api_ca = env.get(&API_CA)?;
        self.api_cert = env.get(&API_CERT)?;
        self.api_key = env.get(&API_KEY)?;
        Ok(self)
    }

    /// Paths of these settings start at `base`, the file's folder.
    pub(super) fn http_paths_from(&mut self, base: &Path) {
        let start = |path: &Path| absolute(base.join(path)).unwrap_or_else(|_| base.join(path));
        let tls = &mut self.http.tls;
        let paths = [
            &mut tls.cert,
            &mut tls.key,
            &mut tls.client_ca,
            &mut self.audit,
            &mut self.api_ca,
            &mut self.api_cert,
            &mut self.api_key,
        ];
        for path in paths.into_iter().flatten() {
            *path = start(path);
        }
        for key in self.signatures.keys.iter_mut().flatten() {
            if !is_key(key) {
                *key = start(Path::new(key)).display().to_string();
            }
        }
    }
}

impl HttpSettings {
    pub(super) fn resolve(l: &Layers) -> Self {
        let signature_keys = l.or(&SIGNATURE_KEYS, |w| w.signatures.keys.clone(), Vec::new());
        let are_there = !signature_keys.value.is_empty();
        Self {
            tokens: l.or(&TOKENS, |w| w.http.tokens.clone(), Vec::new()),
            cert: l.maybe(&CERT, |w| w.http.tls.cert.clone()),
            key: l.maybe(&KEY, |w| w.http.tls.key.clone()),
            client_ca: l.maybe(&CLIENT_CA, |w| w.http.tls.client_ca.clone()),
            plain: l.or(&PLAIN, |w| w.http.plain, false),
            rate: l.or(&RATE_KEY, |w| w.http.rate, RATE),
            open_metrics: l.or(&OPEN_METRICS, |w| w.http.open_metrics, true),
            audit: l.maybe(&AUDIT, |w| w.audit.clone()),
            signature_keys,
            signatures_required: l.or(&SIGNATURES_REQUIRED, |w| w.signatures.required, are_there),
            api_ca: l.maybe(&API_CA, |w| w.api_ca.clone()),
            api_cert: l.maybe(&API_CERT, |w| w.api_cert.clone()),
            api_key: l.maybe(&API_KEY, |w| w.api_key.clone()),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.tokens.check(|tokens| check_tokens(tokens))?;
        together("http.tls.cert", &self.cert, "http.tls.key", &self.key)?;
        together("api_cert", &self.api_cert, "api_key", &self.api_key)?;
        if self.client_ca.value.is_some() && self.cert.value.is_none() {
            return Err(self.client_ca.wrong(
                "http.tls.client_ca asks for clients' certificates, and there is no TLS: set http.tls.cert and http.tls.key",
            ));
        }
        if self.signatures_required.value && self.signature_keys.value.is_empty() {
            return Err(self.signatures_required.wrong(
                "signatures.required: no module could be taken: list keys in signatures.keys",
            ));
        }
        Ok(())
    }

    /// Of the table `[http]`.
    pub(super) fn http_rows(&self) -> Vec<Row> {
        let path = |path: &PathBuf| path.display().to_string().into();
        vec![
            row(&TOKENS, &self.tokens, |tokens| {
                // Serializing plain data can't fail.
                Value::try_from(tokens).unwrap_or_else(|_| Value::Array(Vec::new()))
            }),
            maybe(&CERT, &self.cert, path),
            maybe(&KEY, &self.key, path),
            maybe(&CLIENT_CA, &self.client_ca, path),
            row(&PLAIN, &self.plain, |on| (*on).into()),
            row(&RATE_KEY, &self.rate, |rate| i64::from(rate.get()).into()),
            row(&OPEN_METRICS, &self.open_metrics, |on| (*on).into()),
        ]
    }

    /// Above all tables.
    pub(super) fn top_rows(&self) -> Vec<Row> {
        let path = |path: &PathBuf| path.display().to_string().into();
        vec![
            maybe(&AUDIT, &self.audit, path),
            maybe(&API_CA, &self.api_ca, path),
            maybe(&API_CERT, &self.api_cert, path),
            maybe(&API_KEY, &self.api_key, path),
        ]
    }

    /// Of the table `[signatures]`.
    pub(super) fn signature_rows(&self) -> Vec<Row> {
        vec![
            row(&SIGNATURE_KEYS, &self.signature_keys, |keys| {
                keys.clone().into()
            }),
            row(&SIGNATURES_REQUIRED, &self.signatures_required, |on| {
                (*on).into()
            }),
        ]
    }
}

fn together<T>(
    one: &str,
    first: &Setting<Option<T>>,
    other: &str,
    second: &Setting<Option<T>>,
) -> Result<(), ConfigError> {
    match (&first.value, &second.value) {
        (Some(_), None) => Err(first.wrong(format!("{one} needs {other}"))),
        (None, Some(_)) => Err(second.wrong(format!("{other} needs {one}"))),
        (Some(_), Some(_)) | (None, None) => Ok(()),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use petiole_api::Scope;

    use super::super::layer::Layer;
    use super::super::{Resolved, Written, show};
    use super::*;

    const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn resolved(text: &str) -> Result<Resolved, ConfigError> {
        let path = Path::new("/etc/petiole/petiole.toml");
        Resolved::new(&[Layer::file(path, Written::parse(path, text)?)])
    }

    #[test]
    fn what_is_written_is_read_and_shown() {
        let text = format!(
            "audit = 'audit.jsonl'\napi_ca = '/ca.pem'\n\
             [[http.tokens]]\nname = 'ci'\nsha256 = '{SHA}'\nscopes = ['upload', 'read']\n\
             [http.tls]\ncert = 'tls/cert.pem'\nkey = '/run/key.pem'\nclient_ca = 'ca.pem'\n\
             [signatures]\nkeys = ['keys/team.pub', 'RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3']\n"
        );
        let config = resolved(&text).unwrap();
        let http = &config.http;
        assert_eq!(http.cert.value, Some("/etc/petiole/tls/cert.pem".into()));
        assert_eq!(http.key.value, Some("/run/key.pem".into()));
        assert_eq!(http.audit.value, Some("/etc/petiole/audit.jsonl".into()));
        assert_eq!(http.tokens.value[0].scopes, [Scope::Upload, Scope::Read]);
        assert_eq!(http.signature_keys.value[0], "/etc/petiole/keys/team.pub");
        assert!(http.signatures_required.value && http.signature_keys.value[1].starts_with("RW"));
        let shown = show(&config);
        let again = resolved(&shown).unwrap();
        assert_eq!(again.http.tokens.value, http.tokens.value, "{shown}");
        assert_eq!(again.http.signature_keys.value, http.signature_keys.value);
        assert_eq!(again.http.client_ca.value, http.client_ca.value);
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        let token = |rest: &str| format!("[[http.tokens]]\nname = 'ci'\nsha256 = '{SHA}'\n{rest}");
        let twice = format!(
            "{}\n{}",
            token("scopes = ['read']"),
            token("scopes = ['read']")
        );
        let renamed = twice.replacen("'ci'", "'other'", 1);
        for (text, reason) in [
            (token("scopes = []"), "opens nothing"),
            (
                token("scopes = ['write']"),
                "wants one of upload, read, send, admin",
            ),
            (token(""), "scopes"),
            (twice, "is there twice"),
            (renamed, "the same token"),
            (token("scopes = ['read']").replace("'ci'", "'a b'"), "a b"),
            (
                token("scopes = ['read']").replace(SHA, "abc"),
                "64 hex digits",
            ),
            ("[http.tls]\ncert = 'a'".to_owned(), "needs http.tls.key"),
            ("[http.tls]\nkey = 'a'".to_owned(), "needs http.tls.cert"),
            ("[http.tls]\nclient_ca = 'a'".to_owned(), "there is no TLS"),
            ("api_cert = 'a'".to_owned(), "needs api_key"),
            ("[http]\nrate = 0".to_owned(), "rate"),
            (
                "[signatures]\nrequired = true".to_owned(),
                "no module could be taken",
            ),
        ] {
            let error = resolved(&text).err().unwrap().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
