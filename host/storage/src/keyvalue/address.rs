//! URLs of key-value storages.

use std::path::PathBuf;

use petiole_permits::ServiceUrl;

use crate::redis::server::Server;

/// A URL, read.
#[derive(Debug)]
pub(crate) enum Address {
    Redis(Box<Server>),
    Sqlite(PathBuf),
}

impl Address {
    /// The error is the reason alone: it never quotes the URL, which may hold a password.
    pub(crate) fn parse(url: &ServiceUrl) -> Result<Self, String> {
        match url.expose().split_once("://") {
            None => Err("not a URL".to_owned()),
            Some(("sqlite", "")) => Err("the path of the file is missing".to_owned()),
            Some(("sqlite", path)) => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("redis" | "rediss" | "redis+socket", _)) => redis(url),
            Some(("sentinel", _)) => Err(
                "key-value storage does not ask Sentinel: write the redis:// of the primary, or of a proxy that follows it"
                    .to_owned(),
            ),
            Some((scheme, _)) => Err(format!("there is no storage for {scheme:?}")),
        }
    }
}

fn redis(url: &ServiceUrl) -> Result<Address, String> {
    let server = Server::parse(url)?;
    match server.key_prefix() {
        "" => Ok(Address::Redis(Box::new(server))),
        _ => Err(
            "global_keyprefix is for results: give key-value storage a database of its own, /N"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_or_a_file() {
        for url in [
            "redis://cache/2",
            "rediss://me:s%40cret@cache/1?ssl_ca_certs=/ca",
            "redis+socket:///run/redis.sock",
        ] {
            assert!(
                matches!(Address::parse(&url.into()), Ok(Address::Redis(_))),
                "{url}"
            );
        }
        for (url, path) in [
            ("sqlite:///var/kv.db", "/var/kv.db"),
            ("sqlite://kv.db", "kv.db"),
        ] {
            let Ok(Address::Sqlite(parsed)) = Address::parse(&url.into()) else {
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
            ("redis://:secret@cache?global_keyprefix=a", "is for results"),
            (
                "sentinel://:secret@a:26379?master_name=m",
                "does not ask Sentinel",
            ),
        ] {
            let Err(reason) = Address::parse(&url.into()) else {
                panic!("{url}");
            };
            assert!(reason.contains(part), "{url}: {reason}");
            assert!(!reason.contains("secret"), "{url}: {reason}");
        }
    }
}
