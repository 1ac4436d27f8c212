//! What a result backend's URL names.

use std::path::PathBuf;

use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};
use url::Url;

/// A URL, read.
#[derive(Debug)]
pub(crate) enum Address {
    Redis(Box<Server>),
    Sqlite(PathBuf),
    Reply,
    Disabled,
}

/// A Redis server, and the certificates of a TLS connection to it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) info: ConnectionInfo,
    pub(crate) certificates: Option<TlsCertificates>,
}

impl Address {
    /// Reads a URL as Celery's `result_backend` writes them. The error is the reason alone: it never
    /// quotes the URL, which may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        match scheme {
            "rpc" => Ok(Self::Reply),
            "disabled" => Ok(Self::Disabled),
            "sqlite" if rest.is_empty() => Err("the path of the file is missing".to_owned()),
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "redis" | "rediss" | "redis+socket" | "socket" => {
                Server::parse(url).map(|server| Self::Redis(Box::new(server)))
            }
            _ if url.contains("://") => Err(format!("there is no backend for {scheme:?}")),
            _ => Err("not a URL".to_owned()),
        }
    }
}

impl Server {
    fn parse(url: &str) -> Result<Self, String> {
        let mut url = Url::parse(url).map_err(|error| error.to_string())?;
        let options = Options::parse(&url)?;
        let mut info = if matches!(url.scheme(), "redis" | "rediss") {
            if url.host_str().is_none_or(str::is_empty) {
                url.set_host(Some("localhost"))
                    .map_err(|error| error.to_string())?;
            }
            database(url.path().trim_matches('/'))?;
            url.set_query(None);
            url.set_fragment(None);
            url.clone()
                .into_connection_info()
                .map_err(|error| error.to_string())?
        } else {
            if url.path().is_empty() || url.host_str().is_some_and(|host| !host.is_empty()) {
                return Err("the path of a socket is absolute: redis+socket:///PATH".to_owned());
            }
            ConnectionAddr::Unix(PathBuf::from(url.path()))
                .into_connection_info()
                .map_err(|error| error.to_string())?
        };
        let redis = options.apply(info.redis_settings().clone());
        info = info.set_redis_settings(redis);
        let tls = url.scheme() == "rediss";
        if !tls && options.names_certificates {
            return Err("the ssl_ parameters need rediss://".to_owned());
        }
        Ok(Self {
            info,
            certificates: tls.then(|| options.certificates()).transpose()?.flatten(),
        })
    }
}

/// What Celery takes from the query.
#[derive(Default)]
struct Options {
    db: Option<i64>,
    username: Option<String>,
    password: Option<String>,
    ca_certs: Option<PathBuf>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    names_certificates: bool,
}

impl Options {
    fn parse(url: &Url) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in url.query_pairs() {
            options.names_certificates |= name.starts_with("ssl_");
            match name.as_ref() {
                "virtual_host" | "db" => options.db = Some(database(value.trim_matches('/'))?),
                "username" => options.username = Some(value.into_owned()),
                "password" => options.password = Some(value.into_owned()),
                "ssl_ca_certs" => options.ca_certs = Some(PathBuf::from(value.as_ref())),
                "ssl_certfile" => options.certfile = Some(PathBuf::from(value.as_ref())),
                "ssl_keyfile" => options.keyfile = Some(PathBuf::from(value.as_ref())),
                "ssl_cert_reqs" if matches!(value.as_ref(), "CERT_REQUIRED" | "required") => {}
                "ssl_cert_reqs" => {
                    return Err(format!(
                        "ssl_cert_reqs={value} is not supported: the server's certificate is always checked"
                    ));
                }
                // The rest of redis-py's parameters tune its own client.
                other => tracing::warn!(
                    parameter = other,
                    "ignoring a parameter of the result backend's URL"
                ),
            }
        }
        Ok(options)
    }

    fn apply(&self, mut redis: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(db) = self.db {
            redis = redis.set_db(db);
        }
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        redis
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>, String> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let client_tls = match (&self.certfile, &self.keyfile) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(cert)?,
                client_key: read(key)?,
            }),
            (None, None) => None,
            _ => return Err("ssl_certfile and ssl_keyfile go together".to_owned()),
        };
        let root_cert = self.ca_certs.as_ref().map(read).transpose()?;
        Ok(
            (client_tls.is_some() || root_cert.is_some()).then_some(TlsCertificates {
                client_tls,
                root_cert,
            }),
        )
    }
}

/// A database number; 0 where none is given.
fn database(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse() {
        Ok(number @ 0..) => Ok(number),
        _ => Err(format!("the database is a number from 0, not {text:?}")),
    }
}

/// A URL of a result backend without its secrets, for logs and errors.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if matches!(url, "rpc" | "disabled") {
            url
        } else {
            "(not a URL)"
        }
        .to_owned();
    };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    // From the right: a password that should have been percent-encoded is hidden as well.
    let (userinfo, place) = match rest.rsplit_once('@') {
        Some((userinfo, place)) => (Some(userinfo), place),
        None => (None, rest),
    };
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    match userinfo.map(|userinfo| userinfo.split_once(':')) {
        None => format!("{scheme}://{place}"),
        Some(Some((user, _))) => format!("{scheme}://{user}:***@{place}"),
        Some(None) => format!("{scheme}://***@{place}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        match Address::parse(url) {
            Ok(Address::Redis(server)) => *server,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn urls_as_celery_writes_them() {
        let table = [
            ("redis://", "localhost:6379", 0, None, None),
            ("redis:///3", "localhost:6379", 3, None, None),
            ("redis://cache", "cache:6379", 0, None, None),
            ("redis://cache:7000/2", "cache:7000", 2, None, None),
            (
                "redis://:s%40cret@cache/1",
                "cache:6379",
                1,
                None,
                Some("s@cret"),
            ),
            (
                "redis://me:secret@[::1]:7000",
                "::1:7000",
                0,
                Some("me"),
                Some("secret"),
            ),
            (
                "redis://cache?db=4&password=x&health_check_interval=30",
                "cache:6379",
                4,
                None,
                Some("x"),
            ),
            (
                "rediss://cache/1?ssl_cert_reqs=CERT_REQUIRED",
                "cache:6379",
                1,
                None,
                None,
            ),
            (
                "redis+socket:///run/redis.sock?virtual_host=2",
                "/run/redis.sock",
                2,
                None,
                None,
            ),
            (
                "socket:///run/redis.sock?password=x",
                "/run/redis.sock",
                0,
                None,
                Some("x"),
            ),
        ];
        for (url, addr, db, username, password) in table {
            let server = server(url);
            let redis = server.info.redis_settings();
            assert_eq!(server.info.addr().to_string(), addr, "{url}");
            assert_eq!(
                (redis.db(), redis.username(), redis.password()),
                (db, username, password),
                "{url}"
            );
            assert!(server.certificates.is_none(), "{url}");
        }
        assert!(matches!(
            server("rediss://cache").info.addr(),
            ConnectionAddr::TcpTls {
                insecure: false,
                ..
            }
        ));
        assert!(matches!(
            server("rediss://cache#insecure").info.addr(),
            ConnectionAddr::TcpTls {
                insecure: false,
                ..
            }
        ));
    }

    #[test]
    fn urls_of_what_is_no_redis() {
        assert!(matches!(Address::parse("rpc://"), Ok(Address::Reply)));
        assert!(matches!(Address::parse("rpc"), Ok(Address::Reply)));
        assert!(matches!(
            Address::parse("disabled://"),
            Ok(Address::Disabled)
        ));
        for (url, path) in [
            ("sqlite:///var/lib/petiole.db", "/var/lib/petiole.db"),
            ("sqlite://petiole.db", "petiole.db"),
        ] {
            match Address::parse(url) {
                Ok(Address::Sqlite(parsed)) => assert_eq!(parsed, PathBuf::from(path)),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let table = [
            ("", "not a URL"),
            ("localhost:6379", "not a URL"),
            ("db+sqlite:///x", "no backend for \"db+sqlite\""),
            ("amqp://localhost", "no backend for \"amqp\""),
            ("sqlite://", "path of the file is missing"),
            ("redis://cache/orders", "\"orders\""),
            ("redis://cache/-1", "\"-1\""),
            ("redis://cache:99999", "port"),
            ("redis://cache?ssl_cert_reqs=none", "ssl_cert_reqs=none"),
            ("redis://cache?ssl_ca_certs=/x", "need rediss://"),
            ("rediss://cache?ssl_certfile=/x", "go together"),
            ("rediss://cache?ssl_ca_certs=/no/such.pem", "/no/such.pem"),
            ("redis+socket://run/redis.sock", "absolute"),
        ];
        for (url, part) in table {
            match Address::parse(url) {
                Err(reason) => assert!(reason.contains(part), "{url}: {reason}"),
                Ok(address) => panic!("{url}: {address:?}"),
            }
        }
    }

    #[test]
    fn redacted_urls_hold_no_password() {
        let table = [
            ("redis://:secret@cache:6379/1", "redis://:***@cache:6379/1"),
            ("redis://me:secret@cache", "redis://me:***@cache"),
            ("redis://secret@cache", "redis://***@cache"),
            ("redis://me:se@cr/e?t@cache", "redis://me:***@cache"),
            ("redis://cache?password=secret", "redis://cache"),
            ("redis://:secret@cache:99999", "redis://:***@cache:99999"),
            ("sqlite:///data/a@b.db", "sqlite:///data/a@b.db"),
            ("secret", "(not a URL)"),
            ("rpc://", "rpc://"),
            ("rpc", "rpc"),
        ];
        for (url, expected) in table {
            assert_eq!(redacted(url), expected);
        }
    }
}
