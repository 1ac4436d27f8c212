//! `petiole.toml` as a layer, and the errors of values in it that can't be used.

use std::path::Path;

use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::ConfigError;
use super::key::Key;
use super::layer::Layer;
use super::setting::{ADDRESS, wanted_as};

/// Reads a file's text. Paths of folders and values start at the file's folder.
pub(super) fn read(path: &Path, text: &str, keys: &[Key]) -> Result<Layer, ConfigError> {
    let mut file = File {
        text,
        path,
        keys,
        layer: Layer::default(),
    };
    let table = DeTable::parse(text).map_err(|error| wrong(text, &error, None));
    let read = table.and_then(|table| file.table("", table.into_inner()));
    read.map_err(|reason| ConfigError::File {
        path: path.to_owned(),
        reason,
    })?;
    Ok(file.layer)
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
    keys: &'a [Key],
    layer: Layer,
}

impl File<'_> {
    /// Reads the settings of a table; `within` is its path and a dot.
    fn table(&mut self, within: &str, table: DeTable) -> Result<(), String> {
        for (name, value) in table {
            let path = format!("{within}{}", name.get_ref());
            let inner = format!("{path}.");
            let says = |said: String| {
                let line = line(self.text, name.span().start);
                Err(format!("line {line}: {path}: {said}"))
            };
            let is_one = !name.get_ref().contains('.');
            if let Some(key) = self.keys.iter().find(|key| is_one && key.path == path) {
                let folder = self.path.parent().unwrap_or(Path::new(""));
                let at = value.span().start;
                let value = key.read_file(ValueDeserializer::from(value), folder);
                let value = value.map_err(|error| wrong(self.text, &error, Some(at)))?;
                self.layer
                    .set(&path, value, self.path.display().to_string());
            } else if is_one && self.keys.iter().any(|key| key.path.starts_with(&inner)) {
                match value.into_inner() {
                    DeValue::Table(table) => self.table(&inner, table)?,
                    other => return says(format!("wants a table, and is {}", kind(&other))),
                }
            } else {
                let names = self.names(within);
                return says(format!("there is no such setting here; there are {names}"));
            }
        }
        Ok(())
    }

    /// The names of what may stand in a table.
    fn names(&self, within: &str) -> String {
        let paths = self
            .keys
            .iter()
            .filter_map(|key| key.path.strip_prefix(within));
        let mut names: Vec<_> = paths
            .map(|path| path.split('.').next().unwrap_or(path))
            .collect();
        // Those of a table stand together.
        names.dedup();
        names.join(", ")
    }
}

fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The fault in a file: in which line, at which setting, what it wants and what it got. No value is quoted, for
/// it may be a secret; the TOML library quotes whole lines. `value`: where the value begins, for errors that do not say.
fn wrong(text: &str, error: &toml::de::Error, value: Option<usize>) -> String {
    let Some(at) = error.span().map(|span| span.start).or(value) else {
        return said(error.message(), None);
    };
    let line = line(text, at);
    let whole = DeTable::parse(text).ok();
    let found = whole.as_ref().and_then(|whole| find(whole.get_ref(), at));
    let (path, value) = match &found {
        Some(Found { path, value }) => (format!("{}: ", path.join(".")), *value),
        None => (String::new(), None),
    };
    format!("line {line}: {path}{}", said(error.message(), value))
}

/// A place in a file.
struct Found<'a> {
    path: Vec<String>,
    /// None at the key itself.
    value: Option<&'a DeValue<'a>>,
}

fn find<'a>(table: &'a DeTable<'a>, at: usize) -> Option<Found<'a>> {
    table.iter().find_map(|(key, value)| {
        let mut found = match key.span().contains(&at) {
            true => Found {
                path: Vec::new(),
                value: None,
            },
            // A table's own span is that of its head.
            false => within(value.get_ref(), at).or_else(|| {
                value.span().contains(&at).then(|| Found {
                    path: Vec::new(),
                    value: Some(value.get_ref()),
                })
            })?,
        };
        found.path.insert(0, key.get_ref().to_string());
        Some(found)
    })
}

fn within<'a>(value: &'a DeValue<'a>, at: usize) -> Option<Found<'a>> {
    match value {
        DeValue::Table(table) => find(table, at),
        DeValue::Array(array) => array.iter().find_map(|one| {
            within(one.get_ref(), at).or_else(|| {
                one.span().contains(&at).then(|| Found {
                    path: Vec::new(),
                    value: Some(one.get_ref()),
                })
            })
        }),
        _ => None,
    }
}

/// serde's message without its words and what it quotes.
fn said(message: &str, value: Option<&DeValue>) -> String {
    let got = value.map_or_else(String::new, |value| format!(", and is {}", kind(value)));
    let other = got.replacen(" a ", " another ", 1);
    if let Some((found, wanted)) = message.rsplit_once(", expected ") {
        // `a` or `b`, one of `a`, `b`, `c`
        let names = wanted.trim_start_matches("one of ").replace('`', "");
        let names = names.replace(" or ", ", ");
        match found.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["invalid", "type:"] => return format!("wants {}{got}", wants(wanted)),
            ["invalid", "value:"] => return format!("wants {}{other}", wants(wanted)),
            ["unknown", "variant"] => return format!("wants one of {names}{other}"),
            ["unknown", "field"] => {
                return format!("there is no such setting here; there are {names}");
            }
            _ => {}
        }
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{} is missing", field.replace('`', ""));
    }
    match message {
        // One of several names, where there is no text at all.
        name if name.starts_with("wanted ") || name.starts_with("expected ") => {
            format!("wants a text{got}")
        }
        "invalid IP address syntax" => format!("wants a network, for example 10.0.0.0/8{other}"),
        "invalid socket address syntax" => format!("wants {ADDRESS}{got}"),
        // Of a value that may be one of several things.
        several if several.starts_with("a ") => format!("wants {several}{got}"),
        other => without_quote(other).to_owned(),
    }
}

/// `"hush" is not a size` without the value that it begins with, which may hold the same words.
fn without_quote(message: &str) -> &str {
    let end = message.rfind(" is not ");
    end.and_then(|end| message.get(end + 1..))
        .unwrap_or(message)
}

fn wants(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" | "string" => "a text",
        "path string" => "a path",
        "a sequence" => "a list",
        "a map" => "a table",
        // Only times have it.
        "f64" => "a number of seconds, for example 30",
        "u64" => "a whole number, for example 1000",
        _ if expected.starts_with("struct ") || expected.starts_with("enum ") => "a table",
        _ => wanted_as(expected).unwrap_or(expected),
    }
}

fn kind(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
