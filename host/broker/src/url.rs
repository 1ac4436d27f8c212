use std::path::PathBuf;

use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::BrokerError;

/// A broker URL that was read.
#[derive(Debug)]
pub(crate) enum BrokerUrl {
    /// RabbitMQ nodes, tried in this order.
    Amqp(Vec<Target>),
    /// The embedded broker's file.
    Sqlite(PathBuf),
}

/// One RabbitMQ node.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) uri: AMQPUri,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// A broker URL, or several separated by `;`, without passwords: for logs. Where one of them can't be read, none is
/// shown: it may be half a password with a `;` in it.
pub fn redact(urls: &str) -> String {
    let shown: Option<Vec<_>> = urls.split(';').map(redact_one).collect();
    shown.map_or_else(|| "***".to_owned(), |shown| shown.join(";"))
}

fn redact_one(text: &str) -> Option<String> {
    let mut url = Url::parse(text.trim()).ok()?;
    // behind a `?` or `#` that a password has in it
    if [url.query(), url.fragment()]
        .iter()
        .flatten()
        .any(|rest| rest.contains('@'))
    {
        return None;
    }
    if url.password().is_some() {
        url.set_password(Some("***")).ok()?;
    }
    Some(url.to_string())
}

pub(crate) fn parse(urls: &str) -> Result<BrokerUrl, BrokerError> {
    let parts: Vec<&str> = urls
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    match parts.as_slice() {
        [] => Err(refuse(
            urls,
            "it is empty: give amqp://USER:PASSWORD@HOST:5672/VHOST or sqlite://PATH",
        )),
        [one] if one.starts_with("sqlite:") => sqlite(one).map(BrokerUrl::Sqlite),
        many => many
            .iter()
            .map(|part| amqp(part))
            .collect::<Result<_, _>>()
            .map(BrokerUrl::Amqp),
    }
}

fn refuse(url: &str, reason: impl Into<String>) -> BrokerError {
    BrokerError::Url {
        url: redact(url),
        reason: reason.into(),
    }
}

fn sqlite(text: &str) -> Result<PathBuf, BrokerError> {
    let path = text
        .strip_prefix("sqlite://")
        .ok_or_else(|| refuse(text, "write it sqlite://PATH"))?;
    match path {
        "" | "/" => Err(refuse(text, "it names no file: write it sqlite://PATH")),
        path if path.contains('?') => Err(refuse(text, "it has a query, and takes none")),
        path => Ok(PathBuf::from(path)),
    }
}

/// Reads an AMQP URL as kombu does: `pyamqp` is `amqp`, and an empty virtual host is `/`.
fn amqp(text: &str) -> Result<Target, BrokerError> {
    let text = match text.split_once("://") {
        Some(("pyamqp", rest)) => format!("amqp://{rest}"),
        _ => text.to_owned(),
    };
    let url = Url::parse(&text).map_err(|error| refuse(&text, error.to_string()))?;
    match url.scheme() {
        "amqp" | "amqps" => {}
        "sqlite" => {
            return Err(refuse(
                &text,
                "an sqlite broker stands alone, not in a list",
            ));
        }
        other => {
            return Err(refuse(
                &text,
                format!("the scheme {other:?} is not one of amqp, amqps, sqlite"),
            ));
        }
    }
    let mut uri: AMQPUri = text.parse().map_err(|error: String| refuse(&text, error))?;
    match url.host() {
        // amq-protocol-uri 10.6 takes an IPv6 address for no host at all.
        Some(Host::Ipv6(address)) => uri.authority.host = address.to_string(),
        Some(_) => {}
        None => return Err(refuse(&text, "it names no host")),
    }
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    Ok(Target {
        uri,
        shown: redact(&text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn one(text: &str) -> Target {
        match parse(text).unwrap() {
            BrokerUrl::Amqp(mut targets) if targets.len() == 1 => targets.remove(0),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn amqp_urls_are_read_as_kombu_reads_them() {
        for (text, host, port, vhost, user) in [
            ("amqp://h", "h", 5672, "/", "guest"),
            ("amqp://h/", "h", 5672, "/", "guest"),
            ("amqp://h//", "h", 5672, "/", "guest"),
            (
                "pyamqp://guest@localhost//",
                "localhost",
                5672,
                "/",
                "guest",
            ),
            (
                "amqp://u:p%2Fw@10.0.0.1:5673/my%2Fhost",
                "10.0.0.1",
                5673,
                "my/host",
                "u",
            ),
            ("amqps://u:p@[::1]/x", "::1", 5671, "x", "u"),
        ] {
            let uri = one(text).uri;
            assert_eq!(
                (
                    &*uri.authority.host,
                    uri.authority.port,
                    &*uri.vhost,
                    &*uri.authority.userinfo.username
                ),
                (host, port, vhost, user),
                "{text}"
            );
        }
    }

    #[test]
    fn sqlite_paths_are_relative_or_absolute() {
        for (text, path) in [
            ("sqlite://a/b.db", "a/b.db"),
            ("sqlite:///var/b.db", "/var/b.db"),
            ("sqlite://./b", "./b"),
        ] {
            match parse(text).unwrap() {
                BrokerUrl::Sqlite(read) => assert_eq!(read, PathBuf::from(path)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_list_keeps_its_order() {
        let BrokerUrl::Amqp(targets) = parse("amqp://a; amqp://b ;").unwrap() else {
            panic!("not amqp")
        };
        assert_eq!(
            targets
                .iter()
                .map(|target| &*target.uri.authority.host)
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn what_cannot_be_used_says_why_without_the_password() {
        for (text, part) in [
            ("", "empty"),
            ("localhost", "relative URL"),
            ("http://u:secret@h", "not one of amqp, amqps, sqlite"),
            ("redis://:secret@h", "not one of amqp, amqps, sqlite"),
            ("amqp://u:secret@h:99999999", "port"),
            ("amqp://u:secret@", "host"),
            ("amqp:///vhost", "host"),
            ("sqlite://", "names no file"),
            ("sqlite:x", "sqlite://PATH"),
            ("amqp://h;sqlite://x", "stands alone"),
            ("amqp://h/?heartbeat=x", "invalid digit"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn passwords_are_redacted() {
        assert_eq!(
            redact("amqp://u:p@h//;amqp://h"),
            "amqp://u:***@h//;amqp://h"
        );
        for unreadable in [
            "amqp://u:p@h:x",
            "amqp://u:pa;ss@h",
            "amqp://u:12;ss@h",
            "amqp://u:12?ss@h",
            "amqp://u:12#ss@h",
        ] {
            assert_eq!(redact(unreadable), "***");
        }
    }
}
