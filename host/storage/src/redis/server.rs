//! Redis, by the URLs of Celery's `result_backend`:
//! <https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-backend-settings>.

use std::path::PathBuf;

use ::url::Url;
use petiole_permits::ServiceUrl;
use petiole_permits::url::{self, parameters, split};
use petiole_tls::{Check, Pem, Tls, blocking};
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode,
};

use super::options::{Options, database};

/// A Redis server, as a URL names it.
#[derive(Debug)]
pub(crate) struct Server {
    place: Place,
    login: RedisConnectionInfo,
    tls: Option<Tls>,
    key_prefix: String,
}

#[derive(Debug)]
enum Place {
    Address(ConnectionAddr),
    Sentinel(Sentinel),
}

/// The sentinels, which know the current primary.
#[derive(Debug)]
struct Sentinel {
    sentinels: Vec<ConnectionAddr>,
    primary: String,
    username: Option<String>,
    password: Option<String>,
}

impl Server {
    /// Reads `redis://`, `rediss://`, `redis+socket://` and `sentinel://` (several separated by `;`).
    ///
    /// # Errors
    /// The reason alone: it never quotes the whole URL, which may hold a password.
    pub(crate) fn parse(url: &ServiceUrl) -> Result<Self, String> {
        let (scheme, rest) = url.expose().split_once("://").ok_or("not a URL")?;
        match scheme {
            "redis" | "rediss" => Self::parse_tcp(scheme, rest),
            "redis+socket" => Self::parse_socket(rest),
            "sentinel" => Self::parse_sentinel(url),
            other => Err(format!(
                "there is no Redis behind {other:?}: write redis://, rediss://, redis+socket:// or sentinel://"
            )),
        }
    }

    fn parse_tcp(scheme: &str, rest: &str) -> Result<Self, String> {
        let mut options = Options::default();
        let url = read(scheme, rest, &mut options)?;
        if options.socket_db.is_some() {
            return Err(
                "virtual_host is for sockets: write the database behind the host, /N".to_owned(),
            );
        }
        options.refuse_sentinels()?;
        let info = connection_info(&url)?;
        let tls = options.tls(scheme == "rediss")?;
        let check = tls.as_ref().map(|tls| tls.check);
        Ok(Self {
            place: Place::Address(with_check(info.addr().clone(), check)),
            login: options.login(info.redis_settings().clone()),
            tls,
            key_prefix: options.key_prefix,
        })
    }

    fn parse_socket(rest: &str) -> Result<Self, String> {
        let (_, host, path) = split(rest);
        if !host.is_empty() || !path.starts_with('/') {
            return Err("the path of a socket is absolute: redis+socket:///PATH".to_owned());
        }
        let mut options = Options::default();
        let mut url = read("redis", rest, &mut options)?;
        options.refuse_sentinels()?;
        options.db = options.db.or(options.socket_db);
        let path = percent_encoding::percent_decode_str(url.path())
            .decode_utf8()
            .map_err(|error| format!("the path of the socket: {error}"))?;
        let path = ConnectionAddr::Unix(PathBuf::from(&*path));
        url.set_path("");
        let info = connection_info(&url)?;
        Ok(Self {
            place: Place::Address(path),
            login: options.login(info.redis_settings().clone()),
            tls: options.tls(false)?,
            key_prefix: options.key_prefix,
        })
    }

    /// As in Celery, the first URL gives the Redis servers' database and login; parameters may stand in any URL.
    fn parse_sentinel(urls: &ServiceUrl) -> Result<Self, String> {
        let mut options = Options::default();
        let mut sentinels = Vec::new();
        let mut login: Option<RedisConnectionInfo> = None;
        let parts = urls.each().map(|text| text.strip_prefix("sentinel://"));
        let parts: Option<Vec<_>> = parts.collect();
        let parts = parts.ok_or(
            "what `;` separates has to be sentinel:// each; in a password, write %3B for it",
        )?;
        for rest in parts {
            let url = read("redis", rest, &mut options)?;
            if url.port().is_none() {
                return Err("name the sentinel's port, :26379 (Celery takes Redis' 6379 where there is none)".to_owned());
            }
            let info = connection_info(&url)?;
            sentinels.push(info.addr().clone());
            let own = info.redis_settings();
            let is_given = own.db() != 0 || own.username().is_some() || own.password().is_some();
            match &login {
                None => login = Some(own.clone()),
                Some(first) if is_given && !is_same(first, own) => {
                    return Err("write the database and the login in the first url: Celery reads them there".to_owned());
                }
                Some(_) => {}
            }
        }
        if options.socket_db.is_some() {
            return Err(
                "virtual_host is for sockets: write the database behind the first host, /N"
                    .to_owned(),
            );
        }
        let is_tls = !options.tls.is_empty();
        let tls = options.tls(is_tls)?;
        let check = tls.as_ref().map(|tls| tls.check);
        if check == Some(Check::AnyHost) {
            return Err("ssl_check_hostname=false is not supported with sentinel://: write ssl_cert_reqs=none".to_owned());
        }
        let sentinel = Sentinel {
            sentinels: sentinels
                .into_iter()
                .map(|addr| with_tls(addr, check))
                .collect(),
            primary: options
                .master_name
                .take()
                .ok_or("master_name is missing: write sentinel://HOST:26379/DB?master_name=NAME")?,
            username: options.sentinel_username.take(),
            password: options.sentinel_password.take(),
        };
        Ok(Self {
            place: Place::Sentinel(sentinel),
            login: options.login(login.unwrap_or_default()),
            tls,
            key_prefix: options.key_prefix,
        })
    }

    /// Celery's `global_keyprefix`, as it stands before each key and channel: with a `_` behind it, unless it ends
    /// with one of `:_-.`.
    pub(crate) fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// Checks that the files named in the URL can be used.
    ///
    /// # Errors
    /// The first file that can't be used, and why.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        self.tls.as_ref().map_or(Ok(()), Tls::check_files)
    }

    /// Connects, reading the certificates again; with Sentinel, to the current primary.
    ///
    /// # Errors
    /// The client's; a file that can't be read is an I/O error.
    pub(crate) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let certificates = self.certificates().await?;
        match &self.place {
            Place::Address(addr) => {
                let client = self.client_to(addr, certificates)?;
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            Place::Sentinel(sentinel) => {
                let mut client = self.sentinel_client(sentinel, certificates)?;
                client.get_async_connection_with_config(config).await
            }
        }
    }

    fn client_to(
        &self,
        addr: &ConnectionAddr,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Client> {
        let info = addr.clone().into_connection_info()?;
        let info = info.set_redis_settings(self.login.clone());
        let Some(certificates) = certificates else {
            return Client::open(info);
        };
        let client = Client::build_with_tls(info, certificates)?;
        if self
            .tls
            .as_ref()
            .is_none_or(|tls| tls.check != Check::AnyHost)
        {
            return Ok(client);
        }
        let info = client.get_connection_info().clone();
        let mut addr = info.addr().clone();
        addr.set_danger_accept_invalid_hostnames(true);
        Client::open(info.set_addr(addr))
    }

    fn sentinel_client(
        &self,
        sentinel: &Sentinel,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<SentinelClient> {
        let mut builder = SentinelClientBuilder::new(
            sentinel.sentinels.iter().cloned(),
            &sentinel.primary,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_db(self.login.db());
        if let Some(username) = self.login.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = self.login.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &sentinel.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &sentinel.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let (Some(tls), Some(certificates)) = (&self.tls, certificates) {
            let mode = match tls.check {
                Check::Nothing => TlsMode::Insecure,
                Check::Whole | Check::AnyHost => TlsMode::Secure,
            };
            builder = builder
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_tls_mode(mode)
                .set_client_to_redis_certificates(certificates);
        }
        builder.build()
    }

    async fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(tls) = self.tls.clone() else {
            return Ok(None);
        };
        let Pem {
            authorities,
            client,
        } = blocking(move || tls.read())
            .await
            .map_err(std::io::Error::other)?;
        Ok(Some(TlsCertificates {
            root_cert: authorities,
            client_tls: client.map(|client| ClientTlsConfig {
                client_cert: client.certificates,
                client_key: client.key,
            }),
        }))
    }
}

/// Reads a URL without its parameters, which go to the options.
fn read(scheme: &str, rest: &str, options: &mut Options) -> Result<Url, String> {
    let mut url = url::read(scheme, rest)?;
    for (name, value) in parameters(&url)? {
        options.take(&name, &value)?;
    }
    url.set_query(None);
    Ok(url)
}

fn connection_info(url: &Url) -> Result<ConnectionInfo, String> {
    database(url.path().trim_matches('/'))?;
    url.clone()
        .into_connection_info()
        .map_err(|error| error.to_string())
}

fn with_check(addr: ConnectionAddr, check: Option<Check>) -> ConnectionAddr {
    match addr {
        ConnectionAddr::TcpTls { .. } => with_tls(addr, check),
        other => other,
    }
}

/// The address over TLS, where there is TLS.
fn with_tls(addr: ConnectionAddr, check: Option<Check>) -> ConnectionAddr {
    match (addr, check) {
        (
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. },
            Some(check),
        ) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: check == Check::Nothing,
            tls_params: None,
        },
        (addr, _) => addr,
    }
}

fn is_same(one: &RedisConnectionInfo, other: &RedisConnectionInfo) -> bool {
    (one.db(), one.username(), one.password()) == (other.db(), other.username(), other.password())
}

#[cfg(test)]
mod tests;
