//! TLS from the command line to an API.

use std::path::Path;

use anyhow::{Context, anyhow};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use url::Url;

use crate::config::ClientSettings;
use crate::exit::{Failure, Result};

/// Trusts the authorities that are configured or else those of the system, and shows a certificate where one is
/// configured.
pub(crate) fn config(url: &Url, settings: &ClientSettings) -> Result<TlsConfig> {
    if url.scheme() != "https" {
        return Ok(TlsConfig::default());
    }
    let roots = match &settings.ca {
        Some(file) => certificates(file)?,
        None => native()?,
    };
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
        return Ok(tls.build());
    };
    let key = PrivateKey::from_pem(&read(key)?)
        .with_context(|| format!("{} has no private key in it", key.display()))
        .map_err(Failure::usage)?;
    let client = ClientCert::new_with_certs(&certificates(cert)?, key);
    Ok(tls.client_cert(Some(client)).build())
}

fn native() -> Result<Vec<Certificate<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Failure::usage(anyhow!(
            "this machine has no certificates of authorities: name one with --ca FILE, or api_ca"
        )));
    }
    let certs = found.certs.iter();
    Ok(certs
        .map(|cert| Certificate::from_der(cert).to_owned())
        .collect())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = read(file)?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Failure::usage(anyhow!(
            "{} has no certificate in it",
            file.display()
        )));
    }
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file)
        .with_context(|| format!("can't read {}", file.display()))
        .map_err(Failure::usage)
}
