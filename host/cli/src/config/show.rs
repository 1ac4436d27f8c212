//! The resolved configuration as TOML that could be read back, each value with where it comes from.

use std::fmt::Write;

use petiole_permits::REDACTED;
use petiole_permits::url::redact;
use toml::{Table, Value};

use super::key::{Key, Kind};
use super::layer::{Origins, Values};

/// Shows all settings; passwords, tokens and secrets are `***`.
pub(super) fn show(keys: &[Key], values: &Values, origins: &Origins) -> String {
    let mut text = String::new();
    let (tables, settings): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.kind.is_table());
    let mut heads = vec![""];
    for (head, _) in settings.iter().filter_map(|key| key.path.split_once('.')) {
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    for head in heads {
        start(&mut text, head);
        for key in &settings {
            let (of, name) = key.path.split_once('.').unwrap_or(("", &key.path));
            if of == head {
                let shown = match (values.get(&key.path), key.kind) {
                    (None, _) => format!("# {name} is not set"),
                    (Some(_), Kind::Secret) => format!("# {name} is set: {REDACTED}"),
                    (Some(Value::String(url)), Kind::Url) => {
                        format!("{name} = {}", Value::from(redact(url)))
                    }
                    (Some(value), _) => format!("{name} = {value}"),
                };
                line(&mut text, &shown, origins.of(&key.path));
            }
        }
    }
    for key in tables {
        if let Some(Value::Table(entries)) = values.get(&key.path) {
            match key.path.as_str() {
                "grants" => grants(&mut text, entries, origins),
                _ => table(&mut text, key, entries, origins),
            }
        }
    }
    text
}

fn table(text: &mut String, key: &Key, entries: &Table, origins: &Origins) {
    if !entries.is_empty() {
        start(text, &key.path);
    }
    for (name, value) in entries {
        let value = match (key.kind, value) {
            (Kind::Secrets, Value::String(_)) => &Value::from(REDACTED),
            (_, value) => value,
        };
        let origin = origins.of_entry(&key.path, name);
        line(text, &format!("{} = {value}", quoted(name)), origin);
    }
}

/// Each in a table of its own.
fn grants(text: &mut String, grants: &Table, origins: &Origins) {
    for (glob, grant) in grants {
        start(text, &format!("grants.{}", quoted(glob)));
        for (name, value) in grant.as_table().into_iter().flatten() {
            let origin = origins.of_entry("grants", glob);
            line(text, &format!("{} = {value}", quoted(name)), origin);
        }
    }
}

/// Writes a table's head; what is in none comes first.
fn start(text: &mut String, name: &str) {
    if !name.is_empty() {
        // Writing to a string can't fail, here and below.
        let _ = write!(text, "\n[{name}]\n");
    }
}

fn line(text: &mut String, setting: &str, origin: &str) {
    let _ = writeln!(text, "{setting:<60} # {origin}");
}

/// A key, in quotes where it needs them.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}
