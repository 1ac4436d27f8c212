//! Celery's node names.

/// Expands `%h` (the host's name), `%n` (its first part), `%d` (the rest) and `%%`, as `celery worker -n`
/// does; a name without `@` gets `@` and the host's name.
pub(super) fn node_name(name: &str, host: &str) -> String {
    let (short, domain) = host.split_once('.').unwrap_or((host, ""));
    let mut expanded = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match (c == '%').then(|| chars.next()).flatten() {
            None => expanded.push(c),
            Some('h') => expanded.push_str(host),
            Some('n') => expanded.push_str(short),
            Some('d') => expanded.push_str(domain),
            Some('%') => expanded.push('%'),
            Some(other) => expanded.extend(['%', other]),
        }
    }
    if expanded.contains('@') {
        expanded
    } else {
        format!("{expanded}@{host}")
    }
}

/// The host's name.
pub(super) fn host() -> String {
    hostname::get().map_or_else(
        |_| "localhost".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::node_name;

    #[test]
    fn names_expand_as_celerys() {
        for (name, expanded) in [
            ("celery@%h", "celery@web1.example.com"),
            ("w1@%n", "w1@web1"),
            ("w1@%d", "w1@example.com"),
            ("w1", "w1@web1.example.com"),
            ("50%%@x", "50%@x"),
            ("a%z@x%", "a%z@x%"),
        ] {
            assert_eq!(node_name(name, "web1.example.com"), expanded);
        }
    }
}
