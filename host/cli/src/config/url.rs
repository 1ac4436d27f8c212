//! Which URLs a setting takes. What lies behind one is read by the crate that connects to it.

use url::{Host, Url};

/// The result backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultsKind {
    /// Kept under the task's id.
    Stored,
    /// Sent to the caller as messages.
    Rpc,
    /// Not kept.
    Disabled,
}

/// What a result URL stands for, or why it can't be used.
pub(crate) fn results_kind(url: &str) -> Result<ResultsKind, String> {
    match scheme(url).unwrap_or(url) {
        "redis" | "rediss" | "redis+socket" | "sqlite" if url.contains("://") => {
            Ok(ResultsKind::Stored)
        }
        "rpc" => Ok(ResultsKind::Rpc),
        "disabled" => Ok(ResultsKind::Disabled),
        _ => Err(unknown(
            url,
            "result backend",
            "redis://, rediss://, sqlite://PATH, rpc:// or disabled://",
        )),
    }
}

/// Checks a broker URL, or several separated by `;`.
pub(crate) fn check_broker(urls: &str) -> Result<(), String> {
    let parts: Vec<&str> = urls.split(';').collect();
    for url in &parts {
        match scheme(url) {
            Some("amqp" | "amqps") => {}
            Some("sqlite") if parts.len() == 1 => {}
            Some("sqlite") => {
                return Err(format!(
                    "broker url {:?}: sqlite:// can't be one of several",
                    super::redact(url)
                ));
            }
            _ if parts.len() > 1 => {
                return Err(format!(
                    "broker url {:?}: what `;` separates has to be amqp:// or amqps:// each; in a password, write %3B for it",
                    super::redact(urls)
                ));
            }
            _ => return Err(unknown(url, "broker", "amqp://, amqps:// or sqlite://PATH")),
        }
    }
    Ok(())
}

/// Checks a store URL.
pub(crate) fn check_store(url: &str) -> Result<(), String> {
    match scheme(url) {
        Some("file") => Ok(()),
        Some("s3") => Err(format!(
            "store url {:?}: s3:// is not supported yet: use file://DIR",
            super::redact(url)
        )),
        _ => Err(unknown(url, "store", "file://DIR")),
    }
}

/// Checks the URL of the key-value storage.
pub(crate) fn check_keyvalue(url: &str) -> Result<(), String> {
    match scheme(url) {
        Some("redis" | "rediss" | "sqlite") => Ok(()),
        _ => Err(unknown(
            url,
            "keyvalue",
            "redis://, rediss:// or sqlite://PATH",
        )),
    }
}

/// Reads the URL of a worker's HTTP API.
pub(crate) fn api_url(url: &str) -> Result<Url, String> {
    let parsed =
        Url::parse(url).map_err(|error| format!("api url {:?}: {error}", super::redact(url)))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        _ => Err(unknown(url, "api", "http://HOST:PORT or https://HOST")),
    }
}

/// Whether it leads to this machine itself, without a network between.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn scheme(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

fn unknown(url: &str, what: &str, known: &str) -> String {
    format!("{what} url {:?}: use {known}", super::redact(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in ["amqp://localhost", "amqp://a;amqps://b//", "sqlite://x.db"] {
            assert_eq!(check_broker(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "localhost",
            "redis://localhost",
            "amqp://a;",
            "amqp://a;sqlite://b",
            "ampq://x",
        ] {
            assert!(check_broker(url).is_err(), "{url}");
        }
        assert_eq!(results_kind("rpc://"), Ok(ResultsKind::Rpc));
        assert!(results_kind("amqp://").is_err());
        assert!(
            check_store("s3://bucket").is_err_and(|reason| reason.contains("not supported yet"))
        );
        assert_eq!(check_keyvalue("redis://:p@h/1"), Ok(()));
        assert!(check_keyvalue("amqp://u:secret@h").is_err_and(|reason| {
            reason.contains("u:***@h") && reason.contains("sqlite://PATH")
        }));
        assert!(check_broker("amqp://u:pa;ss@h").is_err_and(|reason| {
            reason.contains("%3B") && reason.contains("u:***@h") && !reason.contains("ss@h")
        }));
        assert!(api_url("ftp://x").is_err());
        assert!(api_url("127.0.0.1:8000").is_err());
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
            ("http://127.0.0.1@example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(
                api_url(url).map(|url| is_loopback(&url)),
                Ok(loopback),
                "{url}"
            );
        }
    }
}
