//! Serves the HTTP API as it is configured.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use petiole_api::{ListenError, Listening, Serving, Settings, TlsFiles};

use crate::config::Resolved;
use crate::exit::{Failure, Result};

/// The address of `petiole dev` where no setting says otherwise.
const DEV: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Serves the API where an address is configured.
pub(crate) async fn serve(config: &Resolved) -> Result<Option<Serving>> {
    match settings(config) {
        Some(settings) => serve_as(config, settings).await.map(Some),
        None => Ok(None),
    }
}

/// Serves it in any case: where no address is configured, on that of `petiole dev` or another port beside it.
pub(crate) async fn serve_dev(config: &Resolved) -> Result<Serving> {
    let settings = settings(config).unwrap_or_else(|| Settings {
        any_port: true,
        ..settings_at(config, DEV)
    });
    serve_as(config, settings).await
}

/// Checks that it can be served as it is configured, as far as can be told before the address is taken.
pub(crate) fn check(config: &Resolved) -> Result<()> {
    let checked = settings(config).map(|settings| petiole_api::check(&settings));
    let checked = checked.transpose();
    checked.map(drop).map_err(|error| failure(config, error))
}

async fn serve_as(config: &Resolved, settings: Settings) -> Result<Serving> {
    let listening = petiole_api::listen(settings).await;
    listening
        .map(Listening::serve)
        .map_err(|error| failure(config, error))
}

fn settings(config: &Resolved) -> Option<Settings> {
    let addr = config.http_addr.value;
    addr.map(|addr| settings_at(config, addr))
}

fn settings_at(config: &Resolved, addr: SocketAddr) -> Settings {
    let http = &config.http;
    let files = http.cert.value.clone().zip(http.key.value.clone());
    Settings {
        addr,
        any_port: false,
        token: config.http_token.value.clone(),
        tokens: http.tokens.value.clone(),
        tls: files.map(|(cert, key)| TlsFiles {
            cert,
            key,
            client_ca: http.client_ca.value.clone(),
        }),
        plain: http.plain.value,
        rate: http.rate.value,
        open_metrics: http.open_metrics.value,
    }
}

fn failure(config: &Resolved, error: ListenError) -> Failure {
    match error {
        ListenError::NoToken(_) | ListenError::NotEncrypted(_) => {
            Failure::usage(anyhow!("{}: {error}", config.http_addr.origin))
        }
        ListenError::Tls(_) => Failure::usage(error),
        ListenError::Bind { .. } => Failure::failed(error),
    }
}
