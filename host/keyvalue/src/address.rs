//! What a URL of a key-value storage names.

use std::path::PathBuf;

use redis::{ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use url::Url;

/// A URL, read.
#[derive(Debug)]
pub(crate) enum Address {
    Redis(Box<Server>),
    Sqlite(PathBuf),
}

/// A Redis server, and the certificates of a TLS connection to it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) info: ConnectionInfo,
    pub(crate) certificates: Option<TlsCertificates>,
}

impl Address {
    /// The error is the reason alone: it never quotes the URL, which may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            None => Err("not a URL".to_owned()),
            Some(("sqlite", "")) => Err("the path of the file is missing".to_owned()),
            Some(("sqlite", path)) => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("redis" | "rediss", _)) => Server::parse(url).map(Box::new).map(Self::Redis),
            Some((scheme, _)) => Err(format!("there is no storage for {scheme:?}")),
        }
    }
}

impl Server {
    fn parse(url: &str) -> Result<Self, String> {
        let mut url = Url::parse(url).map_err(|error| error.to_string())?;
        let certificates = certificates(&url)?;
        let database = url.path().trim_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(format!("the database is a number from 0, not {database:?}"));
        }
        url.set_query(None);
        // the client's way to leave the server's certificate unchecked
        url.set_fragment(None);
        let info = url
            .into_connection_info()
            .map_err(|error| error.to_string())?;
        Ok(Self { info, certificates })
    }
}

/// The query's parameters, named as in a `result_backend`.
fn certificates(url: &Url) -> Result<Option<TlsCertificates>, String> {
    let read = |path: &str| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    let (mut root_cert, mut client_cert, mut client_key) = (None, None, None);
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "ssl_ca_certs" => root_cert = Some(read(&value)?),
            "ssl_certfile" => client_cert = Some(read(&value)?),
            "ssl_keyfile" => client_key = Some(read(&value)?),
            other => {
                return Err(format!(
                    "{other:?} is no parameter: there are ssl_ca_certs, ssl_certfile and ssl_keyfile"
                ));
            }
        }
    }
    let client_tls = match (client_cert, client_key) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
            client_cert,
            client_key,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("ssl_certfile and ssl_keyfile go together".to_owned());
        }
    };
    if client_tls.is_none() && root_cert.is_none() {
        return Ok(None);
    }
    if url.scheme() != "rediss" {
        return Err("the ssl_ parameters need rediss://".to_owned());
    }
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}

/// The URL without its password, for logs and errors.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "(not a URL)".to_owned();
    };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    // From the right: a password that should have been percent-encoded is hidden as well.
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    if rest.contains('@') {
        format!("{scheme}://***@{place}")
    } else {
        format!("{scheme}://{place}")
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_or_a_file() {
        for (url, addr, db, username, password) in [
            ("redis://cache", "cache:6379", 0, None, None),
            ("redis://cache:7000/2", "cache:7000", 2, None, None),
            (
                "rediss://me:s%40cret@cache/1#insecure",
                "cache:6379",
                1,
                Some("me"),
                Some("s@cret"),
            ),
        ] {
            let Ok(Address::Redis(server)) = Address::parse(url) else {
                panic!("{url}");
            };
            let redis = server.info.redis_settings();
            assert_eq!(server.info.addr().to_string(), addr, "{url}");
            assert_eq!(
                (redis.db(), redis.username(), redis.password()),
                (db, username, password),
                "{url}"
            );
            assert!(!matches!(
                server.info.addr(),
                redis::ConnectionAddr::TcpTls { insecure: true, .. }
            ));
        }
        for (url, path) in [
            ("sqlite:///var/kv.db", "/var/kv.db"),
            ("sqlite://kv.db", "kv.db"),
        ] {
            let Ok(Address::Sqlite(parsed)) = Address::parse(url) else {
                panic!("{url}");
            };
            assert_eq!(parsed, PathBuf::from(path));
        }
    }

    #[test]
    fn wrong_urls_say_what_is_wrong_and_no_password() {
        for (url, part) in [
            ("", "not a URL"),
            ("localhost:6379", "not a URL"),
            ("mongodb://me:secret@host", "no storage for \"mongodb\""),
            ("sqlite://", "path of the file is missing"),
            ("redis://:secret@cache/orders", "\"orders\""),
            ("redis://:secret@cache:99999", "port"),
            ("redis://cache?ssl_ca_certs=/no/such.pem", "/no/such.pem"),
            ("redis://cache?ssl_ca_certs=/dev/null", "need rediss://"),
            ("rediss://cache?ssl_certfile=/dev/null", "go together"),
            ("redis://cache?db=3", "\"db\" is no parameter"),
        ] {
            let Err(reason) = Address::parse(url) else {
                panic!("{url}");
            };
            assert!(reason.contains(part), "{url}: {reason}");
            assert!(!reason.contains("secret"), "{url}: {reason}");
        }
    }

    #[test]
    fn passwords_are_hidden() {
        for (url, shown) in [
            ("redis://cache/1", "redis://cache/1"),
            ("redis://:secret@cache/1", "redis://***@cache/1"),
            ("redis://me:se@cret@cache", "redis://***@cache"),
            ("rediss://cache?ssl_keyfile=/k", "rediss://cache"),
            ("sqlite:///a@b", "sqlite:///a@b"),
            ("secret", "(not a URL)"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
