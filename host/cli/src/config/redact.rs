//! URLs without their passwords.

/// The URL with `***` for its password; several URLs separated by `;` each. Works on text, so that a
/// URL which can't be parsed gives nothing away either.
pub(crate) fn redact(urls: &str) -> String {
    urls.split(';')
        .map(redact_one)
        .collect::<Vec<_>>()
        .join(";")
}

fn redact_one(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, format!("?{}", redact_query(query))),
        None => (rest, String::new()),
    };
    // A password may hold an unescaped '/', so that the last '@' counts.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return format!("{scheme}://{rest}{query}");
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:***@{host}{query}"),
        None => format!("{scheme}://{user}@{host}{query}"),
    }
}

fn redact_query(query: &str) -> String {
    let secret = |key: &str| {
        ["password", "secret", "token", "key"]
            .iter()
            .any(|word| key.to_lowercase().contains(word))
    };
    query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, _)) if secret(key) => format!("{key}=***"),
            _ => pair.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::redact;

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
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
