//! Parameters of a Redis server's URL: behind its `?`.

use std::collections::HashMap;

use petiole_tls::{Tls, TlsOptions};
use redis::RedisConnectionInfo;

/// Parameters of Celery's own client, which say nothing about the server: they are ignored.
const OF_CELERYS_CLIENT: [&str; 11] = [
    "client_name",
    "health_check_interval",
    "max_connections",
    "min_other_sentinels",
    "retry_on_error",
    "retry_on_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_read_size",
    "socket_timeout",
    "timeout",
];

#[derive(Default)]
pub(super) struct Options {
    /// Every parameter by name, from all URLs of a list.
    taken: HashMap<String, String>,
    pub(super) db: Option<i64>,
    pub(super) socket_db: Option<i64>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) key_prefix: String,
    pub(super) master_name: Option<String>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<String>,
    pub(super) tls: TlsOptions,
}

impl Options {
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let earlier = self.taken.insert(name.to_owned(), value.to_owned());
        if earlier.is_some_and(|earlier| earlier != value) {
            return Err(format!("{name} is there twice, with another value"));
        }
        if self.tls.take(name, value)? {
            return Ok(());
        }
        let text = || Some(value.to_owned());
        match name {
            "db" => self.db = Some(database(value.trim_matches('/'))?),
            "virtual_host" => self.socket_db = Some(database(value.trim_matches('/'))?),
            "username" => self.username = text(),
            "password" => self.password = text(),
            "global_keyprefix" => self.key_prefix = key_prefix(value),
            "master_name" => self.master_name = text(),
            "sentinel_username" => self.sentinel_username = text(),
            "sentinel_password" => self.sentinel_password = text(),
            "credential_provider" => {
                return Err(
                    "credential_provider is a class of Python's: write user and password"
                        .to_owned(),
                );
            }
            known if OF_CELERYS_CLIENT.contains(&known) => {}
            other => {
                return Err(format!(
                    "the parameter {other:?} is not known: leave it out"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn refuse_sentinels(&self) -> Result<(), String> {
        let given = [
            &self.master_name,
            &self.sentinel_username,
            &self.sentinel_password,
        ];
        match given.iter().any(|one| one.is_some()) {
            true => Err("master_name and the sentinel_ parameters need sentinel://".to_owned()),
            false => Ok(()),
        }
    }

    /// TLS, if the URL asks for it; without TLS, its parameters are an error.
    pub(super) fn tls(&mut self, is_tls: bool) -> Result<Option<Tls>, String> {
        let tls = std::mem::take(&mut self.tls);
        match is_tls {
            true => tls.tls().map(Some),
            false if tls.is_empty() => Ok(None),
            false => Err("the ssl_ parameters need rediss://".to_owned()),
        }
    }

    /// As in Celery, the parameters override the login before the host and the database behind it.
    pub(super) fn login(&self, mut redis: RedisConnectionInfo) -> RedisConnectionInfo {
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
}

fn key_prefix(written: &str) -> String {
    match written.chars().next_back() {
        None | Some(':' | '_' | '-' | '.') => written.to_owned(),
        Some(_) => format!("{written}_"),
    }
}

/// A database number; 0 where none is given.
pub(super) fn database(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse() {
        Ok(number @ 0..) => Ok(number),
        _ => Err(format!("the database is a number from 0, not {text:?}")),
    }
}
