/// The URL of a scheme and what stands behind its `://`, with `localhost` where that names no host: Celery takes such
/// URLs, the URL standard does not.
pub fn with_host(scheme: &str, rest: &str) -> String {
    let (login, host, path) = split(rest);
    let missing = if host.is_empty() || host.starts_with(':') {
        "localhost"
    } else {
        ""
    };
    format!("{scheme}://{login}{missing}{host}{path}")
}

/// True if an `@` stands behind the host, where it has to be written `%40`: or a password has a `/`, `?` or `#` in it
/// that is not escaped, and its rest stands there. Nothing of such a URL may be shown.
pub fn is_torn(rest: &str) -> bool {
    split(rest).2.contains('@')
}

/// The message for one that is torn.
pub const TORN: &str = "an `@` stands behind its host: write %40 for it there, and in a password %2F, %3F and %23 for a `/`, `?` and `#`";

/// The login with its `@`, the host with its port, and the rest with its `/`, `?` or `#`.
pub fn split(rest: &str) -> (&str, &str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    let (login, host) = authority.split_at(host);
    (login, host, path)
}

#[cfg(test)]
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
            assert!(is_torn(rest), "{rest}");
        }
        for rest in ["", "h", "u:p@h", "u:p@q@h:1/v?a=b", "u:p@[::1]:7/x%40"] {
            assert!(!is_torn(rest), "{rest}");
        }
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
            ("h/a@b", "s://h/a@b"),
            ("u@[::1]:7/x", "s://u@[::1]:7/x"),
        ] {
            assert_eq!(with_host("s", rest), whole);
        }
    }
}
