//! URLs of result backends.

use std::path::PathBuf;

use petiole_permits::ServiceUrl;

use crate::redis::server::Server;

/// Backends that Celery 5.7 and django-celery-results have in Python only (`celery.app.backends.BACKEND_ALIASES`).
const PYTHONS: &[&str] = &[
    "arangodb",
    "azureblockblob",
    "cache",
    "cassandra",
    "consul",
    "cosmosdbsql",
    "couchbase",
    "couchdb",
    "database",
    "db",
    "django-cache",
    "django-db",
    "dynamodb",
    "elasticsearch",
    "file",
    "gs",
    "mongodb",
    "s3",
];

/// True for a scheme of one of them: `django-db`, or `db+postgresql` of `db`.
fn is_pythons(scheme: &str) -> bool {
    let name = scheme.split('+').next().unwrap_or(scheme);
    PYTHONS.contains(&name)
}

/// A URL, read.
#[derive(Debug)]
pub(crate) enum Address {
    Redis(Box<Server>),
    Sqlite(PathBuf),
    Reply,
    Disabled,
}

impl Address {
    /// Reads a URL as Celery's `result_backend` writes them. The error is the reason alone: it never
    /// quotes the URL, which may hold a password.
    pub(crate) fn parse(url: &ServiceUrl) -> Result<Self, String> {
        let text = url.expose();
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        match scheme {
            "rpc" => Ok(Self::Reply),
            "disabled" => Ok(Self::Disabled),
            "sqlite" if rest.is_empty() => Err("the path of the file is missing".to_owned()),
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "redis" | "rediss" | "redis+socket" | "sentinel" => {
                Server::parse(url).map(|server| Self::Redis(Box::new(server)))
            }
            "socket" => Err("write redis+socket:///PATH".to_owned()),
            python if is_pythons(python) => Err(format!(
                "there is no backend for {python:?}, which Celery has in Python only"
            )),
            _ if url.scheme().is_some() => Err(format!("there is no backend for {scheme:?}")),
            _ => Err("not a URL".to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_results_go() {
        for url in [
            "redis://",
            "rediss://cache/1?ssl_cert_reqs=none",
            "redis+socket:///run/redis.sock",
            "sentinel://a:26379;sentinel://b:26379?master_name=m",
        ] {
            assert!(
                matches!(Address::parse(&url.into()), Ok(Address::Redis(_))),
                "{url}"
            );
        }
        assert!(matches!(
            Address::parse(&"rpc://".into()),
            Ok(Address::Reply)
        ));
        assert!(matches!(Address::parse(&"rpc".into()), Ok(Address::Reply)));
        assert!(matches!(
            Address::parse(&"disabled://".into()),
            Ok(Address::Disabled)
        ));
        for (url, path) in [
            ("sqlite:///var/lib/petiole.db", "/var/lib/petiole.db"),
            ("sqlite://petiole.db", "petiole.db"),
        ] {
            match Address::parse(&url.into()) {
                Ok(Address::Sqlite(parsed)) => assert_eq!(parsed, PathBuf::from(path)),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (url, part) in [
            ("", "not a URL"),
            ("localhost:6379", "not a URL"),
            ("db+sqlite:///x", "no backend for \"db+sqlite\""),
            ("django-db", "no backend for \"django-db\", which Celery"),
            ("cache+memcached://h", "\"cache+memcached\", which Celery"),
            ("amqp://localhost", "no backend for \"amqp\""),
            ("socket:///x", "redis+socket://"),
            ("sqlite://", "path of the file is missing"),
            ("redis://cache/orders", "\"orders\""),
        ] {
            match Address::parse(&url.into()) {
                Err(reason) => assert!(reason.contains(part), "{url}: {reason}"),
                Ok(address) => panic!("{url}: {address:?}"),
            }
        }
    }
}
