//! URLs without their passwords.

/// The URL with `***` for its password; several URLs separated by `;` each. Works on text, so that a
/// URL which can't be parsed gives nothing away either: what may hold a password in another place than
/// where one belongs is not shown at all.
pub(crate) fn redact(urls: &str) -> String {
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
pub(crate) fn redact_text(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
    let parts = text.split_inclusive(is_end).map(|part| {
        let url = part.strip_suffix(is_end).unwrap_or(part);
        let end = part.strip_prefix(url).unwrap_or_default();
        // Not the form of a URL, as help writes it.
        match url.contains("://") && url.contains('@') && !url.contains(":PASSWORD@") {
            true => redact(url) + end,
            false => part.to_owned(),
        }
    });
    parts.collect()
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
        return if may_hold_one { "***" } else { url }.to_owned();
    };
    let hidden = format!("{scheme}://***");
    let (before, query) = match rest.split_once('?') {
        // The `@` may be the query's; or the `?` the password's, unescaped.
        Some((_, query)) if query.contains('@') => return hidden,
        Some((before, query)) => (before, format!("?{}", redact_query(query))),
        None => (rest, String::new()),
    };
    // A password may hold an unescaped '/' or '@', so that the last '@' counts.
    let Some((user, host)) = before.rsplit_once('@') else {
        // `redis://:password`, for want of a host, is none that can be parsed.
        let is_whole = ["sqlite", "file"].contains(&scheme) || url::Url::parse(url).is_ok();
        return match is_whole {
            true => format!("{scheme}://{before}{query}"),
            false => hidden,
        };
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:***@{host}{query}"),
        None => format!("{scheme}://{user}@{host}{query}"),
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
            // What follows a `;` or `#` may be a secret of its own.
            Some((key, value)) if secret(key) || value.contains([';', '#']) => format!("{key}=***"),
            _ => pair.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::{redact, redact_text};

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
            ("redis://:secret@localhost/0", "redis://:***@localhost/0"),
            (
                "redis://localhost?password=x&db=1",
                "redis://localhost?password=***&db=1",
            ),
            ("amqp://user@host", "amqp://user@host"),
            (
                "sqlite:///var/lib/petiole.db",
                "sqlite:///var/lib/petiole.db",
            ),
            ("amqp://u:p@ss@host", "amqp://u:***@host"),
            (
                "amqp://u:p;ss@h1; amqp://u:p@h2",
                "amqp://u:***@h1;amqp://u:***@h2",
            ),
            ("redis://:pa;ss@host/1", "redis://:***@host/1"),
            ("redis://:pa;ss:x@host/1", "redis://:***@host/1"),
            ("amqp://u:pa#ss@h", "amqp://u:***@h"),
            ("amqp://[::1]:5672//", "amqp://[::1]:5672//"),
            ("file://my modules/x", "file://my modules/x"),
            ("nonsense", "nonsense"),
            // in doubt, nothing
            ("amqp://u:pa?ss@h", "amqp://***"),
            ("amqp://u:12?ss@h", "amqp://***"),
            ("redis://:a@b?ss@h", "redis://***"),
            ("redis://localhost?password=p@ss", "redis://***"),
            ("redis://h?db=1;password=x", "redis://h?db=***"),
            ("redis://:secret", "redis://***"),
            ("amqp://u:secret;amqp://h2", "amqp://***;amqp://h2"),
            ("u:secret@host", "***"),
            ("host?password=secret", "***"),
            (":secret@host/://x", "***"),
        ] {
            assert_eq!(redact(url), shown);
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
                "use redis://[[USER]:PASSWORD@]HOST[:PORT]",
                "use redis://[[USER]:PASSWORD@]HOST[:PORT]",
            ),
        ] {
            assert_eq!(redact_text(text), shown);
        }
    }
}
