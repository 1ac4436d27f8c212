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

/// The login with its `@`, the host with its port, and the rest with its `/`, `?` or `#`.
pub(crate) fn split(rest: &str) -> (&str, &str, &str) {
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
