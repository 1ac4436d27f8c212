//! URLs of services, as Celery and kombu 5.7 take them. They may hold passwords.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Debug, Display, Formatter};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::REDACTED;

/// The URL of a service, or several separated by `;`, as it was written: shown without its secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// The text itself, for whoever connects.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text before the `://`, if there is one.
    pub fn scheme(&self) -> Option<&str> {
        self.0.split_once("://").map(|(scheme, _)| scheme)
    }

    /// The texts that `;` separates, without empty ones.
    pub fn each(&self) -> impl Iterator<Item = &str> {
        let all = self.0.split(';').map(str::trim);
        all.filter(|one| !one.is_empty())
    }
}

impl From<String> for ServiceUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for ServiceUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Display for ServiceUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl Debug for ServiceUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&redact(&self.0), f)
    }
}

/// Reads one URL by its scheme and what stands behind the `://`, with `localhost` where that names no host: Celery takes
/// such URLs, the URL standard does not.
///
/// # Errors
/// The reason alone: it quotes nothing of the URL.
pub fn read(scheme: &str, rest: &str) -> Result<Url, String> {
    let (login, host, path) = split(rest);
    if path.contains('@') {
        return Err(
            "an `@` stands behind its host: write %40 for it there, and in a password %2F, %3F and %23 for a `/`, \
             `?` and `#`"
                .to_owned(),
        );
    }
    let missing = match host.is_empty() || host.starts_with(':') {
        true => "localhost",
        false => "",
    };
    let url = Url::parse(&format!("{scheme}://{login}{missing}{host}{path}"))
        .map_err(|error| error.to_string())?;
    match url.fragment() {
        Some(_) => Err("it has a `#`: in a password, write %23".to_owned()),
        None => Ok(url),
    }
}

/// A parameter's name and value.
pub type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The parameters behind the `?`.
///
/// # Errors
/// If a name is there twice.
pub fn parameters(url: &Url) -> Result<Vec<Parameter<'_>>, String> {
    let mut names = HashSet::new();
    url.query_pairs()
        .map(|(name, value)| match names.insert(name.clone()) {
            true => Ok((name, value)),
            false => Err(format!("{name} is there twice")),
        })
        .collect()
}

/// Splits the text behind `://`: the login with its `@`, the host with its port, and the rest with its `/`, `?` or `#`.
pub fn split(rest: &str) -> (&str, &str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    let (login, host) = authority.split_at(host);
    (login, host, path)
}

/// The URL with `***` for its password; several URLs separated by `;` each. Works on text, so that a
/// URL which can't be parsed gives nothing away either: one that may hold a password in
/// another place than where one belongs is not shown at all.
pub fn redact(urls: &str) -> String {
    let mut whole: Vec<String> = Vec::new();
    for part in urls.split(';') {
        match whole.last_mut() {
            // A `;` may stand in a password too.
            Some(url) if with_scheme(part).is_none() => {
                url.push(';');
                url.push_str(part);
            }
            _ => whole.push(part.to_owned()),
        }
    }
    let shown: Vec<_> = whole.iter().map(|url| redact_one(url)).collect();
    shown.join(";")
}

/// A text without the passwords of the URLs in it: for errors, which quote what was typed or answered.
pub fn redact_text(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
    let mut shown = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, None);
    while !rest.is_empty() {
        let (mut part, mut behind) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
        if part.contains("://")
            && let Some(quote @ ('"' | '\'' | '`')) = before
        {
            (part, behind) = rest.split_at(quoted(rest, quote));
        }
        // Not the form of a URL, as help writes it.
        match part.contains("://") && part.contains('@') && !part.contains(":PASSWORD@") {
            true => shown.push_str(&redact(part)),
            false => shown.push_str(part),
        }
        let mut behind = behind.chars();
        before = behind.next();
        shown.extend(before);
        rest = behind.as_str();
    }
    shown
}

/// The length of a URL that a quote has opened. A password may hold any quote, so that the one that closes has no letter
/// or digit behind it.
fn quoted(text: &str, quote: char) -> usize {
    let is_end = |(at, c): &(usize, char)| {
        let behind = text.get(at + c.len_utf8()..).unwrap_or_default();
        c.is_whitespace() || *c == quote && !behind.starts_with(char::is_alphanumeric)
    };
    let mut chars = text.char_indices();
    chars.find(is_end).map_or(text.len(), |(at, _)| at)
}

/// Scheme and rest of a text that begins with `SCHEME://`.
fn with_scheme(text: &str) -> Option<(&str, &str)> {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.trim_start()
        .split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_of_scheme))
}

fn redact_one(url: &str) -> String {
    let Some((scheme, rest)) = with_scheme(url) else {
        let may_hold_one = url.contains(['@', '?']) || url.contains("://");
        return if may_hold_one { REDACTED } else { url }.to_owned();
    };
    let is_path = ["sqlite", "file"].contains(&scheme);
    let hidden = format!("{scheme}://{REDACTED}");
    let (before, query) = match rest.split_once('?') {
        // The `@` may be the query's; or the `?` the password's, unescaped.
        Some((_, query)) if query.contains('@') => return hidden,
        Some((before, query)) => (before, format!("?{}", redact_query(query))),
        None => (rest, String::new()),
    };
    // A password may hold an unescaped '/' or '@', so that the last '@' counts.
    let Some((user, host)) = before.rsplit_once('@') else {
        // `redis://:password` has no host, so that it can't be parsed.
        return match is_path || Url::parse(url).is_ok() {
            true => format!("{scheme}://{before}{query}"),
            false => hidden,
        };
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:{REDACTED}@{host}{query}"),
        // The `@` is the path's.
        None if is_path || scheme.starts_with("http") && user.contains('/') => {
            format!("{scheme}://{before}{query}")
        }
        // It may be a password that lacks its `:`.
        None => format!("{scheme}://{REDACTED}@{host}{query}"),
    }
}

fn redact_query(query: &str) -> String {
    let secret = |key: &str| {
        ["pass", "secret", "token", "key"]
            .iter()
            .any(|word| key.to_lowercase().contains(word))
    };
    query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            // The text behind a `;` or `#` may be a secret of its own.
            Some((key, value)) if secret(key) || value.contains([';', '#']) => {
                format!("{key}={REDACTED}")
            }
            _ => pair.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_not_escaped_tears_its_url() {
        for rest in [
            "u:a/b@h",
            "u:a?b@h/1",
            "u:a#b@h",
            "u:p@h/a@b",
            "h?password=a@b",
        ] {
            let reason = read("s", rest).unwrap_err();
            assert!(reason.contains("behind its host"), "{rest}: {reason}");
        }
        for rest in ["", "h", "u:p@h", "u:p@q@h:1/v?a=b", "u:p@[::1]:7/x%40"] {
            read("s", rest).unwrap();
        }
        assert!(read("s", "h#a").unwrap_err().contains("%23"));
    }

    #[test]
    fn a_host_that_is_missing_is_this_machine() {
        for (rest, whole) in [
            ("", "s://localhost"),
            ("/1", "s://localhost/1"),
            ("?a=b", "s://localhost?a=b"),
            (":7000", "s://localhost:7000"),
            ("u:p@", "s://u:p@localhost"),
            (":p@:7000/1", "s://:p@localhost:7000/1"),
            ("u@[::1]:7/x", "s://u@[::1]:7/x"),
        ] {
            assert_eq!(read("s", rest).unwrap().as_str(), whole);
        }
    }

    #[test]
    fn a_parameter_is_there_once() {
        let url = |query: &str| read("s", query).unwrap();
        let two = url("?a=1&b=%20");
        let two = parameters(&two).unwrap();
        assert_eq!(two, [("a".into(), "1".into()), ("b".into(), " ".into())]);
        assert_eq!(
            parameters(&url("?a=1&b=2&a=3")),
            Err("a is there twice".to_owned())
        );
    }

    #[test]
    fn a_list_is_its_parts() {
        let list = ServiceUrl::from("a://u:p@x; b://y ;");
        assert_eq!(list.each().collect::<Vec<_>>(), ["a://u:p@x", "b://y"]);
        assert_eq!(
            (list.scheme(), ServiceUrl::from("a").scheme()),
            (Some("a"), None)
        );
    }

    #[test]
    fn passwords_go() {
        for (url, shown) in [
            (
                "amqp://guest:guest@localhost:5672//",
                "amqp://guest:***@localhost:5672//",
            ),
            (
                "amqp://a:p@h1;amqps://b:q/w@h2/v",
                "amqp://a:***@h1;amqps://b:***@h2/v",
            ),
            ("amqp://u:p@h//;amqp://h", "amqp://u:***@h//;amqp://h"),
            ("redis://:secret@localhost/0", "redis://:***@localhost/0"),
            (
                "redis://localhost?password=x&db=1",
                "redis://localhost?password=***&db=1",
            ),
            ("redis://me:secret@cache", "redis://me:***@cache"),
            ("redis://:secret@cache:99999", "redis://:***@cache:99999"),
            (
                "sentinel://:secret@a:1;sentinel://b:2?sentinel_password=secret",
                "sentinel://:***@a:1;sentinel://b:2?sentinel_password=***",
            ),
            ("db+postgresql://u:secret@h/d", "db+postgresql://u:***@h/d"),
            ("amqp://u:p@ss@host", "amqp://u:***@host"),
            ("redis://me:se@cr@cache", "redis://me:***@cache"),
            (
                "amqp://u:p;ss@h1; amqp://u:p@h2",
                "amqp://u:***@h1;amqp://u:***@h2",
            ),
            ("redis://:pa;ss@host/1", "redis://:***@host/1"),
            ("redis://:pa;ss:x@host/1", "redis://:***@host/1"),
            ("sentinel://:se;cret@a:1", "sentinel://:***@a:1"),
            ("amqp://u:pa;ss@h", "amqp://u:***@h"),
            ("amqp://u:12;ss@h", "amqp://u:***@h"),
            ("amqp://u:12/ss@h", "amqp://u:***@h"),
            ("amqp://u:12#ss@h", "amqp://u:***@h"),
            ("amqp://u:pa#ss@h", "amqp://u:***@h"),
            ("amqp://u:p@h:x", "amqp://u:***@h:x"),
            ("amqp://[::1]:5672//", "amqp://[::1]:5672//"),
            // a path is no login
            (
                "sqlite:///var/lib/petiole.db",
                "sqlite:///var/lib/petiole.db",
            ),
            ("sqlite:///data/a@b.db", "sqlite:///data/a@b.db"),
            ("file://my modules/x", "file://my modules/x"),
            ("rpc://", "rpc://"),
            ("rpc", "rpc"),
            ("django-db", "django-db"),
            ("localhost", "localhost"),
            ("nonsense", "nonsense"),
            // in doubt, nothing
            ("amqp://secret@host", "amqp://***@host"),
            ("amqp://u:pa?ss@h", "amqp://***"),
            ("amqp://u:12?ss@h", "amqp://***"),
            ("redis://:a@b?ss@h", "redis://***"),
            ("redis://me:se@cr/e?t@cache", "redis://***"),
            ("redis://localhost?password=p@ss", "redis://***"),
            ("redis://h?db=1;password=x", "redis://h?db=***"),
            ("redis://:secret", "redis://***"),
            ("amqp://u:secret;amqp://h2", "amqp://***;amqp://h2"),
            ("u:secret@host", "***"),
            ("host?password=secret", "***"),
            (":secret@host/://x", "***"),
        ] {
            assert_eq!(ServiceUrl::from(url).to_string(), shown);
            assert_eq!(format!("{:?}", ServiceUrl::from(url)), format!("{shown:?}"));
        }
    }

    #[test]
    fn passwords_go_from_texts() {
        for (text, shown) in [
            (
                "no task is called http://u:hush@h",
                "no task is called http://u:***@h",
            ),
            (
                "'amqp://u:hush@h;amqp://u:hush@i': wrong (see https://example.com/a@b)",
                "'amqp://u:***@h;amqp://u:***@i': wrong (see https://example.com/a@b)",
            ),
            ("shop.tasks@3, a:b@c", "shop.tasks@3, a:b@c"),
            (
                "\"redis://u:pa'hush@h\": wrong; 'a'",
                "\"redis://u:***@h\": wrong; 'a'",
            ),
            ("'redis://u:pa<\"hush@h'", "'redis://u:***@h'"),
            (
                "'redis://u:pa'hush@h' for '--broker <URL>'",
                "'redis://u:***@h' for '--broker <URL>'",
            ),
            (
                r#"{"url":"http://h","mail":"a@b"}, 'http://h<', "c@d""#,
                r#"{"url":"http://h","mail":"a@b"}, 'http://h<', "c@d""#,
            ),
            (
                "use redis://[[USER]:PASSWORD@]HOST[:PORT]",
                "use redis://[[USER]:PASSWORD@]HOST[:PORT]",
            ),
        ] {
            assert_eq!(redact_text(text), shown);
        }
    }
}
