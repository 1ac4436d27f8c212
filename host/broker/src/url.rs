use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;

use ::url::{Host, Url};
use lapin::uri::{AMQPQueryString, AMQPUri, SASLMechanism};
use petiole_permits::ServiceUrl;
use petiole_permits::url::{self, parameters};
use petiole_tls::{Tls, TlsOptions};

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
    /// Where it is reached over TLS.
    pub(crate) tls: Option<Tls>,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// Whether [`connect`](crate::connect) can read a broker URL, or several separated by `;`: it is read by the same
/// parser.
///
/// # Errors
/// [`BrokerError::Url`], with the reason and without passwords.
pub fn check(urls: &ServiceUrl) -> Result<(), BrokerError> {
    parse(urls).map(drop)
}

/// Whether the certificates that a broker URL names can be read.
///
/// # Errors
/// [`BrokerError::Url`]: the first file that can't be used, and why.
pub fn check_files(urls: &ServiceUrl) -> Result<(), BrokerError> {
    let BrokerUrl::Amqp(targets) = parse(urls)? else {
        return Ok(());
    };
    targets.iter().try_for_each(|target| {
        let checked = target.tls.as_ref().map_or(Ok(()), Tls::check_files);
        checked.map_err(|reason| refuse(&target.shown, reason))
    })
}

pub(crate) fn parse(urls: &ServiceUrl) -> Result<BrokerUrl, BrokerError> {
    let parts: Vec<_> = urls.each().collect();
    match parts.as_slice() {
        [] => Err(refuse(
            urls.expose(),
            "it is empty: give amqp://USER:PASSWORD@HOST:5672/VHOST or sqlite://PATH",
        )),
        [one] if one.starts_with("sqlite:") => sqlite(one).map(BrokerUrl::Sqlite),
        many if many.len() > 1 && many.iter().any(|part| !part.contains("://")) => Err(refuse(
            urls.expose(),
            "what `;` separates has to be a url each; in a password, write %3B for it",
        )),
        many => many
            .iter()
            .map(|part| amqp(part))
            .collect::<Result<_, _>>()
            .map(BrokerUrl::Amqp),
    }
}

fn refuse(url: &str, reason: impl Into<String>) -> BrokerError {
    BrokerError::Url {
        url: ServiceUrl::from(url).to_string(),
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

/// Reads an AMQP URL as kombu does: <https://docs.celeryq.dev/projects/kombu/en/stable/userguide/connections.html>.
/// Host, user and password that are missing are `localhost`, `guest` and `guest`, an empty virtual host is `/`.
fn amqp(text: &str) -> Result<Target, BrokerError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(refuse(
            text,
            "it is no url: write amqp://USER:PASSWORD@HOST:5672/VHOST",
        ));
    };
    let scheme = amqp_scheme(scheme).map_err(|reason| refuse(text, reason))?;
    let mut url = url::read(scheme, rest).map_err(|reason| refuse(text, reason))?;
    let (query, tls) = query(&url).map_err(|reason| refuse(text, reason))?;
    url.set_query(None);
    let mut uri: AMQPUri = url
        .as_str()
        .parse()
        .map_err(|error: String| refuse(text, error))?;
    uri.query = query;
    // amq-protocol-uri 10.6 takes an IPv6 address for no host at all.
    if let Some(Host::Ipv6(address)) = url.host() {
        uri.authority.host = address.to_string();
    }
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    Ok(Target {
        uri,
        tls,
        shown: ServiceUrl::from(text).to_string(),
    })
}

/// The scheme by what it means: Celery's clients of one protocol are one client here.
fn amqp_scheme(written: &str) -> Result<&'static str, String> {
    match written.to_ascii_lowercase().as_str() {
        "amqp" | "pyamqp" | "librabbitmq" => Ok("amqp"),
        "amqps" => Ok("amqps"),
        "pyamqps" | "librabbitmqs" => Err(format!("Celery has no {written}: write amqps://")),
        "sqlite" => Err("an sqlite broker stands alone, not in a list".to_owned()),
        other => Err(format!(
            "the scheme {other:?} is not one of amqp, pyamqp, librabbitmq, amqps, sqlite"
        )),
    }
}

/// What stands behind the `?`: kombu's `heartbeat` (seconds) and `login_method`, AMQP's `frame_max` (bytes) and
/// `channel_max`, and for `amqps` the parameters of TLS.
fn query(url: &Url) -> Result<(AMQPQueryString, Option<Tls>), String> {
    let mut query = AMQPQueryString::default();
    let mut tls = TlsOptions::default();
    for (name, value) in parameters(url)? {
        match name.as_ref() {
            name if tls.take(name, &value)? => {}
            "heartbeat" => query.heartbeat = Some(number(&name, &value)?),
            "frame_max" => query.frame_max = Some(number(&name, &value)?),
            "channel_max" => query.channel_max = Some(number(&name, &value)?),
            "login_method" => query.auth_mechanism = Some(login_method(&value)?),
            other => return Err(unknown(other)),
        }
    }
    let tls = match url.scheme() {
        "amqps" => Some(tls.tls()?),
        _ if tls.is_empty() => None,
        _ => return Err("the ssl_ parameters need amqps://".to_owned()),
    };
    let shows_certificate = tls.as_ref().is_some_and(|tls| tls.client.is_some());
    match query.auth_mechanism {
        Some(SASLMechanism::External) if !shows_certificate => Err(
            "login_method=EXTERNAL shows a certificate: write amqps:// with ssl_certfile and ssl_keyfile"
                .to_owned(),
        ),
        _ => Ok((query, tls)),
    }
}

/// Names of RabbitMQ's clients and of Celery's `broker_use_ssl` have another one here.
fn unknown(name: &str) -> String {
    let here = match name {
        "auth_mechanism" => "login_method",
        "cacertfile" | "ca_certs" => "ssl_ca_certs",
        "certfile" => "ssl_certfile",
        "keyfile" => "ssl_keyfile",
        "verify" | "cert_reqs" => "ssl_cert_reqs",
        _ => return format!("{name} is not known: leave it out"),
    };
    format!("{name} is not known: write {here}")
}

fn number<T: FromStr<Err = ParseIntError>>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|error| format!("{name} is a whole number, not {value:?}: {error}"))
}

fn login_method(value: &str) -> Result<SASLMechanism, String> {
    match value {
        "PLAIN" => Ok(SASLMechanism::Plain),
        "AMQPLAIN" => Ok(SASLMechanism::AMQPlain),
        "EXTERNAL" => Ok(SASLMechanism::External),
        other => Err(format!(
            "login_method={other} is not supported: write PLAIN, AMQPLAIN or EXTERNAL"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use petiole_tls::Check;

    use super::*;

    fn one(text: &str) -> Target {
        match parse(&text.into()).unwrap() {
            BrokerUrl::Amqp(mut targets) if targets.len() == 1 => targets.remove(0),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Each form that kombu 5.7 takes, and what it makes of it.
    #[test]
    fn amqp_urls_are_read_as_kombu_reads_them() {
        for (text, host, port, vhost, login) in [
            ("amqp://", "localhost", 5672, "/", "guest:guest"),
            ("amqp://h", "h", 5672, "/", "guest:guest"),
            ("amqp://h/", "h", 5672, "/", "guest:guest"),
            ("amqp://h//", "h", 5672, "/", "guest:guest"),
            ("amqp://h/%2F", "h", 5672, "/", "guest:guest"),
            ("amqp://h//a", "h", 5672, "/a", "guest:guest"),
            ("amqp://h/a/b", "h", 5672, "a/b", "guest:guest"),
            ("AMQP://H/V", "H", 5672, "V", "guest:guest"),
            (
                "pyamqp://guest@localhost//",
                "localhost",
                5672,
                "/",
                "guest:guest",
            ),
            ("librabbitmq://u@h/v", "h", 5672, "v", "u:guest"),
            ("amqp:///v", "localhost", 5672, "v", "guest:guest"),
            ("amqp://:5673", "localhost", 5673, "/", "guest:guest"),
            ("amqp://u:p@", "localhost", 5672, "/", "u:p"),
            ("amqp://u:p@/v", "localhost", 5672, "v", "u:p"),
            ("pyamqp://u:p@:5673/v", "localhost", 5673, "v", "u:p"),
            (
                "amqp://a%40b:p%2Fw@10.0.0.1:5673/my%2Fhost",
                "10.0.0.1",
                5673,
                "my/host",
                "a@b:p/w",
            ),
            ("amqps://u:p@[::1]/x", "::1", 5671, "x", "u:p"),
            ("amqps://", "localhost", 5671, "/", "guest:guest"),
        ] {
            let uri = one(text).uri;
            let user = &uri.authority.userinfo;
            assert_eq!(
                (
                    &*uri.authority.host,
                    uri.authority.port,
                    &*uri.vhost,
                    &*format!("{}:{}", user.username, user.password)
                ),
                (host, port, vhost, login),
                "{text}"
            );
        }
    }

    #[test]
    fn what_stands_behind_the_question_mark_is_used() {
        let query = one("amqp://h?heartbeat=30&frame_max=8192&channel_max=7&login_method=AMQPLAIN")
            .uri
            .query;
        assert_eq!(query.heartbeat, Some(30));
        assert_eq!(query.frame_max, Some(8192));
        assert_eq!(query.channel_max, Some(7));
        assert_eq!(query.auth_mechanism, Some(SASLMechanism::AMQPlain));
        assert_eq!(one("amqp://h").uri.query, AMQPQueryString::default());
    }

    #[test]
    fn amqps_is_checked_unless_the_url_says_otherwise() {
        assert_eq!(one("amqp://h").tls, None);
        for (text, check) in [
            ("amqps://h", Check::Whole),
            ("amqps://h?ssl_cert_reqs=CERT_REQUIRED", Check::Whole),
            ("amqps://h?ssl_cert_reqs=CERT_NONE", Check::Nothing),
            ("amqps://h?ssl_check_hostname=false", Check::AnyHost),
        ] {
            assert_eq!(one(text).tls.unwrap().check, check, "{text}");
        }
        let target = one(
            "amqps://h/v?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&login_method=EXTERNAL",
        );
        assert!(target.tls.unwrap().client.is_some());
        assert_eq!(
            target.uri.query.auth_mechanism,
            Some(SASLMechanism::External)
        );
        let missing = check_files(&"amqp://h;amqps://u:secret@h?ssl_ca_certs=/no/such.pem".into());
        let message = missing.unwrap_err().to_string();
        assert!(message.contains("/no/such.pem: ") && !message.contains("secret"));
    }

    #[test]
    fn sqlite_paths_are_relative_or_absolute() {
        for (text, path) in [
            ("sqlite://a/b.db", "a/b.db"),
            ("sqlite:///var/b.db", "/var/b.db"),
            ("sqlite://./b", "./b"),
        ] {
            match parse(&text.into()).unwrap() {
                BrokerUrl::Sqlite(read) => assert_eq!(read, PathBuf::from(path)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_list_keeps_its_order() {
        let BrokerUrl::Amqp(targets) = parse(&"amqp://a; amqp://b ;".into()).unwrap() else {
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
            ("localhost", "it is no url: write amqp://"),
            ("http://u:secret@h", "\"http\" is not one of amqp"),
            ("redis://:secret@h", "\"redis\" is not one of amqp"),
            ("sentinel://h:26379", "\"sentinel\" is not one of amqp"),
            ("ampq://x", "\"ampq\" is not one of amqp"),
            ("pyamqps://h", "write amqps://"),
            ("amqp://u:pa;secret@h", "%3B"),
            ("amqp://h;localhost", "a url each"),
            ("amqp://u:secret@h:99999999", "port"),
            ("amqp://u:1#secret@h", "%23"),
            ("amqp://u:12?secret@h", "%3F"),
            ("amqp://u:12/secret@h", "%2F"),
            ("sqlite://", "names no file"),
            ("sqlite:x", "sqlite://PATH"),
            ("amqp://h;sqlite://x", "stands alone"),
            ("amqp://h/?heartbeat=x", "heartbeat is a whole number"),
            ("amqp://h/?heartbeat=70000", "too large"),
            ("amqp://h/?heartbeat=1&heartbeat=2", "twice"),
            (
                "amqp://h/?connection_timeout=5",
                "connection_timeout is not known",
            ),
            ("amqp://h/?login_method=GSSAPI", "write PLAIN"),
            ("amqps://h/?auth_mechanism=external", "write login_method"),
            ("amqps://h/?cacertfile=/x", "write ssl_ca_certs"),
            ("amqps://h/?cert_reqs=2", "write ssl_cert_reqs"),
            ("amqp://h/?ssl_ca_certs=/x", "need amqps://"),
            ("amqps://h/?ssl_keyfile=/x", "needs its ssl_certfile"),
            ("amqps://h/?ssl_cert_reqs=maybe", "\"maybe\""),
            ("amqps://h/?login_method=EXTERNAL", "with ssl_certfile"),
            ("amqp://h/?login_method=EXTERNAL", "with ssl_certfile"),
        ] {
            let message = parse(&text.into()).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
