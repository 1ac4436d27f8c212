//! Serves the HTTP API as it is configured.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::anyhow;
use petiole_api::{ListenError, Listening, Serving, Settings, TlsFiles};

use crate::config::HttpSettings;
use crate::exit::{Failure, Result};

/// The address of `petiole dev` where no setting says otherwise.
const DEV: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Serves the API where an address is configured.
pub(crate) async fn serve(http: &HttpSettings) -> Result<Option<Serving>> {
    match settings(http) {
        Some(settings) => serve_as(http, settings).await.map(Some),
        None => Ok(None),
    }
}

/// Serves it in any case: where no address is configured, on that of `petiole dev` or another port beside it.
pub(crate) async fn serve_dev(http: &HttpSettings) -> Result<Serving> {
    let settings = settings(http).unwrap_or_else(|| Settings {
        any_port: true,
        ..settings_at(http, DEV)
    });
    serve_as(http, settings).await
}

/// Checks that it can be served as it is configured, as far as can be told before the address is taken.
pub(crate) fn check(http: &HttpSettings) -> Result<()> {
    let checked = settings(http).map(|settings| petiole_api::check(&settings));
    let checked = checked.transpose();
    checked.map(drop).map_err(|error| failure(http, error))
}

async fn serve_as(http: &HttpSettings, settings: Settings) -> Result<Serving> {
    let listening = petiole_api::listen(settings).await;
    listening
        .map(Listening::serve)
        .map_err(|error| failure(http, error))
}

fn settings(http: &HttpSettings) -> Option<Settings> {
    http.addr.map(|addr| settings_at(http, addr))
}

fn settings_at(http: &HttpSettings, addr: SocketAddr) -> Settings {
    let files = http.cert.clone().zip(http.key.clone());
    Settings {
        addr,
        any_port: false,
        token: http.token.clone(),
        tokens: http.tokens.clone(),
        tls: files.map(|(cert, key)| TlsFiles {
            cert,
            key,
            client_ca: http.client_ca.clone(),
        }),
        plain: http.plain,
        rate: http.rate,
        open_metrics: http.open_metrics,
    }
}

fn failure(http: &HttpSettings, error: ListenError) -> Failure {
    match error {
        ListenError::NoToken(_) | ListenError::NotEncrypted(_) => {
            Failure::usage(anyhow!("{}: {error}", http.origins.of("http.addr")))
        }
        ListenError::Tls(_) => Failure::usage(error),
        ListenError::Bind { .. } => Failure::failed(error),
    }
}
