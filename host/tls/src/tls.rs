//! TLS as the parameters of a URL ask for it. They are named as in a `result_backend` with `rediss://`:
//! <https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend>.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::blocking;

/// Bytes of a file of certificates or of a key: a system's whole bundle is a quarter of that.
const FILE_LIMIT: u64 = 1 << 20;

/// Checks of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Its signer, its dates, and that it is the host's.
    #[default]
    Whole,
    /// The same, but for the host's name.
    AnyHost,
    /// Nothing: whoever answers is taken for the server.
    Nothing,
}

/// The PEM files by which this side shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate, and those that lead to its authority.
    pub certfile: PathBuf,
    /// Its private key; it may be in the same file.
    pub keyfile: PathBuf,
}

/// TLS to one server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The checks of the server's certificate.
    pub check: Check,
    /// The PEM file of the authorities that are trusted, in place of the system's.
    pub ca_certs: Option<PathBuf>,
    /// The certificate that is shown to the server.
    pub client: Option<ClientFiles>,
}

/// The `ssl_` parameters of a URL, as they are found.
#[derive(Debug, Default)]
pub struct TlsOptions {
    is_checked: Option<bool>,
    checks_host: Option<bool>,
    ca_certs: Option<PathBuf>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes a parameter, or says that it is none of TLS.
    ///
    /// # Errors
    /// Says what is wrong with the parameter.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let file = || Some(PathBuf::from(value));
        match name {
            "ssl_ca_certs" => self.ca_certs = file(),
            "ssl_certfile" => self.certfile = file(),
            "ssl_keyfile" => self.keyfile = file(),
            "ssl_cert_reqs" => self.is_checked = Some(cert_reqs(value)?),
            "ssl_check_hostname" => {
                self.checks_host = Some(!value.eq_ignore_ascii_case("false"));
            }
            name if name.starts_with("ssl_") => {
                return Err(format!(
                    "{name} is not supported: there are ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile and \
                     ssl_check_hostname"
                ));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// True if none was found.
    pub fn is_empty(&self) -> bool {
        let Self {
            is_checked,
            checks_host,
            ca_certs,
            certfile,
            keyfile,
        } = self;
        is_checked.is_none()
            && checks_host.is_none()
            && [ca_certs, certfile, keyfile]
                .iter()
                .all(|file| file.is_none())
    }

    /// The settings that they amount to. The server is checked unless they say otherwise.
    ///
    /// # Errors
    /// Says what is wrong with them together.
    pub fn tls(self) -> Result<Tls, String> {
        let check = match (self.is_checked, self.checks_host) {
            (Some(false), _) => Check::Nothing,
            (_, Some(false)) => Check::AnyHost,
            _ => Check::Whole,
        };
        // As in Python's `load_cert_chain`, the key may stand beside the certificate.
        let client = match (self.certfile, self.keyfile) {
            (Some(certfile), keyfile) => Some(ClientFiles {
                keyfile: keyfile.unwrap_or_else(|| certfile.clone()),
                certfile,
            }),
            (None, Some(_)) => return Err("ssl_keyfile needs its ssl_certfile".to_owned()),
            (None, None) => None,
        };
        Ok(Tls {
            check,
            ca_certs: self.ca_certs,
            client,
        })
    }
}

/// Decides if the server is checked. For a client, `CERT_OPTIONAL` is `CERT_REQUIRED`
/// (<https://docs.python.org/3/library/ssl.html#ssl.CERT_OPTIONAL>).
fn cert_reqs(value: &str) -> Result<bool, String> {
    match value {
        "CERT_REQUIRED" | "required" | "CERT_OPTIONAL" | "optional" => Ok(true),
        "CERT_NONE" | "none" => Ok(false),
        other => Err(format!(
            "ssl_cert_reqs={other:?} is not one of CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE, required, optional, none"
        )),
    }
}

/// The files' contents, PEM.
pub struct Pem {
    /// The authorities that are trusted, where not the system's.
    pub authorities: Option<Vec<u8>>,
    /// The certificate that is shown to the server.
    pub client: Option<ClientPem>,
}

/// The certificate that is shown to a server.
pub struct ClientPem {
    /// The certificate, and those that lead to its authority.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl Tls {
    /// Checks that each file can be read and has in it what it should.
    ///
    /// # Errors
    /// The first file that can't be used, and why.
    pub fn check_files(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    /// Reads the files, each time again: certificates are renewed while a worker runs.
    ///
    /// # Errors
    /// The first file that can't be used, and why.
    pub fn read(&self) -> Result<Pem, String> {
        let authorities = self
            .ca_certs
            .as_deref()
            .map(read_certificates)
            .transpose()?;
        let client = self.client.as_ref().map(|files| {
            let key = read(&files.keyfile)?;
            PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
                format!("{} has no private key: {error}", files.keyfile.display())
            })?;
            Ok::<_, String>(ClientPem {
                certificates: read_certificates(&files.certfile)?,
                key,
            })
        });
        Ok(Pem {
            authorities,
            client: client.transpose()?,
        })
    }

    /// A configuration for rustls, from the files as they are now.
    ///
    /// # Errors
    /// The file that can't be used, or that a machine without authorities has to name some.
    pub async fn client_config(&self) -> Result<ClientConfig, String> {
        let tls = self.clone();
        blocking(move || tls.read_config()).await
    }

    fn read_config(&self) -> Result<ClientConfig, String> {
        let pem = self.read()?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(&pem, provider)?);
        let Some(client) = pem.client else {
            return Ok(builder.with_no_client_auth());
        };
        let key = PrivateKeyDer::from_pem_slice(&client.key).map_err(|error| error.to_string())?;
        builder
            .with_client_auth_cert(certificates(&client.certificates)?, key)
            .map_err(|error| format!("ssl_certfile and ssl_keyfile: {error}"))
    }

    fn verifier(
        &self,
        pem: &Pem,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        if self.check == Check::Nothing {
            return Ok(Arc::new(Lenient {
                chain: None,
                provider,
            }));
        }
        let roots = Arc::new(roots(pem.authorities.as_deref())?);
        let whole = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(match self.check {
            Check::AnyHost => Arc::new(Lenient {
                chain: Some(whole),
                provider,
            }),
            Check::Whole | Check::Nothing => whole,
        })
    }
}

fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("ssl_ca_certs: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match roots.is_empty() {
        true => Err(
            "this machine has no certificates of authorities: name a file with ssl_ca_certs"
                .to_owned(),
        ),
        false => Ok(roots),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

fn read_certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = read(path)?;
    match certificates(&pem) {
        Ok(found) if found.is_empty() => {
            Err(format!("{} has no certificate in it", path.display()))
        }
        Ok(_) => Ok(pem),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    match u64::try_from(bytes.len()).is_ok_and(|size| size <= FILE_LIMIT) {
        true => Ok(bytes),
        false => Err(format!(
            "{} has more than {FILE_LIMIT} bytes",
            path.display()
        )),
    }
}

/// True if a connection failed for the certificate that the server showed: trying again is in vain until somebody
/// changes one side or the other.
pub fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    type Shared = Arc<dyn std::error::Error + Send + Sync>;
    let mut next = Some(error);
    while let Some(error) = next {
        let error = match error.downcast_ref::<Shared>() {
            Some(shared) => &**shared,
            None => error,
        };
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let found = match inner {
            Some(inner) => inner.downcast_ref::<Error>(),
            None => error.downcast_ref::<Error>(),
        };
        if let Some(error) = found {
            return matches!(error, Error::InvalidCertificate(_));
        }
        next = error.source();
    }
    false
}

/// Checks less than rustls does by itself: the chain without the host's name, or nothing. Signatures are always
/// checked, so that the connection is with whoever holds the certificate.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is compared last: whoever fails there has passed all else.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
