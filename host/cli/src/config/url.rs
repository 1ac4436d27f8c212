//! The URLs that no other crate connects to. Those of brokers, result backends and key-value storage are checked by
//! the parser of the crate that connects to them.

use petiole_modules::Store;
use petiole_permits::ServiceUrl;
use url::{Host, Url};

use super::error::ConfigError;
use super::layer::Origins;

/// Adds its origin to the error of a server's URL. Celery may need a setting of its own that Petiole can't use: then
/// the error suggests `ours`, which overrides it.
pub(super) fn check_server(
    origins: &Origins,
    path: &str,
    ours: &str,
    checked: Result<(), String>,
) -> Result<(), ConfigError> {
    checked.map_err(|reason| match origins.of(path).starts_with("env CELERY_") {
        true => origins.wrong(
            path,
            format!("{reason}. Where Celery needs it so, name Petiole's own with {ours}, which goes before it"),
        ),
        false => origins.wrong(path, reason),
    })
}

/// Checks a store URL.
pub(crate) fn check_store(url: &ServiceUrl) -> Result<(), String> {
    match url.scheme() {
        Some("file") => Store::of_url(url)
            .map(drop)
            .map_err(|error| error.to_string()),
        Some("s3") => Err(format!(
            "store url {url:?}: s3:// is not supported yet: use file://DIR"
        )),
        _ => Err(unknown(url, "store", "file://DIR")),
    }
}

/// Reads the URL of a worker's HTTP API.
pub(crate) fn api_url(url: &ServiceUrl) -> Result<Url, String> {
    let parsed = Url::parse(url.expose()).map_err(|error| format!("api url {url:?}: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(unknown(url, "api", "http://HOST:PORT or https://HOST"));
    }
    // Nothing would send them, and each error would show them.
    let has_login = !parsed.username().is_empty() || parsed.password().is_some();
    if has_login || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(format!(
            "the api url of {} has a user, a password, or something behind a ? or #: leave it out; the API takes a token, \
             from PETIOLE_TOKEN",
            parsed.host_str().unwrap_or_default()
        ));
    }
    Ok(parsed)
}

/// True if it leads to this machine itself, without a network between.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn unknown(url: &ServiceUrl, what: &str, known: &str) -> String {
    format!("{what} url {url:?}: use {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(check_store(&"file://x".into()), Ok(()));
        assert!(
            check_store(&"s3://bucket".into())
                .is_err_and(|reason| reason.contains("not supported yet"))
        );
        assert!(api_url(&"ftp://x".into()).is_err());
        assert!(api_url(&"127.0.0.1:8000".into()).is_err());
    }

    #[test]
    fn an_api_is_told_no_password() {
        for url in [
            "http://user:hush@host",
            "http://:hush@host:8000/",
            "https://hush@host",
            "http://host/?token=hush",
            "http://host/#hush",
            "http://user:hush@ho st",
            "ftp://user:hush@host",
        ] {
            let error = api_url(&url.into()).err().unwrap_or_default();
            assert!(error.contains("api url"), "{url}: {error}");
            assert!(!error.contains("hush"), "{url}: {error}");
        }
    }

    #[test]
    fn apis_of_this_machine() {
        for (url, loopback) in [
            ("http://127.0.0.1:8000", true),
            ("HTTP://LOCALHOST", true),
            ("https://[::1]:8000/", true),
            ("http://127.1", true),
            ("http://0.0.0.0:8000", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(
                api_url(&url.into()).map(|url| is_loopback(&url)),
                Ok(loopback),
                "{url}"
            );
        }
    }
}
