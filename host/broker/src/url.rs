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
    /// Set if it is reached over TLS.
    pub(crate) tls: Option<Tls>,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// Checks that [`connect`](crate::connect) can read a broker URL, or several separated by `;`, by the same parser.
///
/// # Errors
/// [`BrokerError::Url`], with the reason and without passwords.
pub fn check(urls: &ServiceUrl) -> Result<(), BrokerError> {
    parse(urls).map(drop)
}

/// Checks that the certificates that a broker URL names can be read.
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

/// The parameters behind the `?`: kombu's `heartbeat` (seconds) and `login_method`, AMQP's `frame_max` (bytes) and
/// `channel_max`, and for `amqps` those of TLS.
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
mod tests;
