//! TLS of the API: certificates from PEM files, read again when they change.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::task::JoinError;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::private::check_private;
use crate::settings::TlsFiles;

/// The time between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);

/// The PEM files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One can't be read.
    #[error("can't read {what} from {}", file.display())]
    Unreadable {
        /// `a private key` or `certificates`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// The key is open to others.
    #[error("{0}")]
    NotPrivate(String),
    /// There is nothing in it.
    #[error("{} has no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// Not a certificate that signs others.
    #[error("{} is no authority", file.display())]
    NoAuthority {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// The authorities can't be used.
    #[error("can't check clients by {}", file.display())]
    Clients {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: VerifierBuilderError,
    },
    /// A certificate and another one's key.
    #[error("the certificate {} and the key {} don't fit together", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// rustls has no cipher for its own protocol versions.
    #[error("tls")]
    Provider(#[source] rustls::Error),
    /// Reading them was cut off.
    #[error("reading the files was cut off")]
    CutOff(#[source] JoinError),
}

/// TLS as it is set up now.
pub(super) struct Tls {
    files: TlsFiles,
    /// Of the files before they were read: what changes while they are has another one.
    seen: Vec<Stamp>,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files, which have to fit together.
    pub(super) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let config = RwLock::new(Arc::new(config(&files)?));
        Ok(Self {
            files,
            seen,
            config,
        })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }

    /// Reads the files again whenever they have changed, for as long as it is polled. While they don't fit
    /// together, what was there before stays.
    pub(super) async fn follow(&self) {
        let mut seen = self.seen.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let (files, before) = (self.files.clone(), seen.clone());
            let read = tokio::task::spawn_blocking(move || read_again(&files, &before)).await;
            let config = match read {
                Ok(None) => continue,
                Ok(Some((now, config))) => {
                    seen = now;
                    config
                }
                Err(error) => Err(TlsError::CutOff(error)),
            };
            match config {
                Ok(config) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    tracing::info!(target: "petiole", "the http api's certificates are read again");
                }
                Err(error) => {
                    let cause = error.source().map(tracing::field::display);
                    tracing::error!(target: "petiole", cause, "the http api keeps its old certificates: {error}");
                }
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

type Stamp = Option<(SystemTime, u64)>;

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [&files.cert, &files.key]
        .into_iter()
        .chain(&files.client_ca)
        .map(stamp)
        .collect()
}

/// The files' stamps and contents, where they are not as they were.
fn read_again(
    files: &TlsFiles,
    before: &[Stamp],
) -> Option<(Vec<Stamp>, Result<ServerConfig, TlsError>)> {
    let now = stamps(files);
    (now != before).then(|| (now, config(files)))
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let certs = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(file)? {
                roots
                    .add(authority)
                    .map_err(|source| TlsError::NoAuthority {
                        file: file.clone(),
                        source,
                    })?;
            }
            // Without a certificate there are the probes and metrics, and for the rest an answer that names
            // the missing certificate.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|source| TlsError::Clients {
                    file: file.clone(),
                    source,
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certs, key)
        .map_err(|source| TlsError::Pair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |source| TlsError::Unreadable {
        what: "a private key",
        file: file.to_owned(),
        source,
    };
    let pem = File::open(file).map_err(|error| failed(pem::Error::Io(error)))?;
    let meta = pem
        .metadata()
        .map_err(|error| failed(pem::Error::Io(error)))?;
    check_private(file, &meta).map_err(TlsError::NotPrivate)?;
    PrivateKeyDer::from_pem_reader(pem).map_err(failed)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsError::Unreadable {
        what: "certificates",
        file: file.to_owned(),
        source,
    })?;
    match certificates.is_empty() {
        true => Err(TlsError::NoCertificate(file.to_owned())),
        false => Ok(certificates),
    }
}

/// The certificate's owner, as the audit names it: `CN=ci, O=Example`.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => {
            let subject = certificate.subject().to_string();
            match subject.is_empty() {
                true => format!("serial {}", certificate.raw_serial_as_string()),
                false => subject,
            }
        }
        Err(_) => "unreadable".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // Of this test alone: `openssl req -x509 -newkey ed25519 -nodes -days 36500 -subj /CN=test`.
    const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPobJn+Uq0nQRQRQDUA3HPH1ihjqHS/w/1w0lSchFdDz
-----END PRIVATE KEY-----
";
    const CERT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBNDCB56ADAgECAhRYMSfPmZRuaBEUeiOmd513Sv1mDzAFBgMrZXAwDzENMAsG
A1UEAwwEdGVzdDAgFw0yNjExMjUxMDEyNTFaGA8yMTI2MTEwMTEwMTI1MVowDzEN
MAsGA1UEAwwEdGVzdDAqMAUGAytlcAMhAIH9JbEAAweWuPAjsXC/r/QHo+ykusVZ
puoVCzX71usoo1MwUTAdBgNVHQ4EFgQUr9t9jKCAW4sm4YJyA2paUJR2FiEwHwYD
VR0jBBgwFoAUr9t9jKCAW4sm4YJyA2paUJR2FiEwDwYDVR0TAQH/BAUwAwEB/zAF
BgMrZXADQQClZykawgW5ThJAAmAyoqRI97RdbypsGaw7pQqrucOaoCcqvdlMbiUb
BNHLi8TBEMvfAw6fbZNErxG0EOc1534H
-----END CERTIFICATE-----
";

    fn files(dir: &Path) -> TlsFiles {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&cert, CERT).unwrap();
        fs::write(&key, KEY).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        TlsFiles {
            cert,
            key,
            client_ca: None,
        }
    }

    #[test]
    fn what_changes_before_serving_begins_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::load(files(dir.path())).unwrap();
        assert!(read_again(&tls.files, &tls.seen).is_none());
        fs::write(&tls.files.cert, format!("{CERT}\n")).unwrap();
        let (now, config) = read_again(&tls.files, &tls.seen).unwrap();
        assert!(config.is_ok());
        assert!(read_again(&tls.files, &now).is_none());
    }

    #[test]
    fn a_key_is_not_open_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&files.key, Permissions::from_mode(mode)).unwrap();
            let error = Tls::load(files.clone()).unwrap_err().to_string();
            let reason = format!("mode {mode:03o}): chmod 600");
            assert!(
                error.contains("key.pem") && error.contains(&reason),
                "{error}"
            );
        }
    }
}
