//! What a setting wants and what it got, in an operator's words: of a text, as flags and the environment have it, and
//! of the file.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use petiole_permits::url::{redact, redact_text};
use petiole_permits::{Size, SizeError};
use toml::de::{DeTable, DeValue};

use super::units::{Count, LogFormat, LogLevel, Seconds, Share};

/// A setting's value, as it is read from a text.
pub(crate) trait FromText: Sized {
    /// Reads it; the error says what is wanted.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// [`FromText`] for a flag.
pub(crate) fn from_text<T: FromText>(text: &str) -> Result<T, String> {
    T::from_text(text)
}

/// Types that say themselves what they want.
macro_rules! says_itself {
    ($($type:ty),*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|reason: String| redact_text(&reason))
            }
        }
    )*};
}
says_itself!(Count, LogFormat, LogLevel, Seconds, Share);

/// The standard library's types, whose own errors speak of Rust; by what serde calls them too.
macro_rules! wants {
    ($($type:ty, $name:literal: $wants:expr;)*) => {
        $(impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| is_not(text, $wants))
            }
        })*

        fn wanted_as(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some($wants),)*
                _ => None,
            }
        }
    };
}
wants! {
    NonZeroU16, "a nonzero u16": "a whole number from 1 to 65535";
    NonZeroU32, "a nonzero u32": "a whole number from 1 to 4294967295";
    u32, "u32": "a whole number from 0 to 4294967295";
    bool, "a boolean": "true or false";
    SocketAddr, "socket address": ADDRESS;
}

const ADDRESS: &str = "an IP address with its port, for example 127.0.0.1:8000";

impl FromText for Size {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: SizeError| redact_text(&error.to_string()))
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: Infallible| match error {})
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

fn is_not(text: &str, wanted: &str) -> String {
    format!("{:?} is not {wanted}", redact(text))
}

/// What is wrong in a file: in which line, at which setting, what it wants and what it got. No value is quoted, for
/// it may be a secret; the TOML library quotes whole lines.
pub(super) fn wrong(text: &str, error: &toml::de::Error) -> String {
    let Some(at) = error.span().map(|span| span.start) else {
        return said(error.message(), None);
    };
    let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
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

/// `"hush" is not a size` without what it names first. A rule that is none is quoted: it is one of several, and no secret.
fn without_quote(message: &str) -> &str {
    let end = message.find(" is not ");
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::ffi::OsString;
    use std::path::Path;

    use super::super::{Resolved, Written, env, show};

    /// Words of Rust and serde, which say nothing to whoever writes a file.
    const OF_RUST: &[&str] = &[
        "expected", "invalid", "struct", "enum", "variant", "field", "u16", "u32", "u64", "f64",
        "usize", "nonzero", "non-zero", "borrowed", "sequence", "map", "boolean", "string",
        "tuple", "digit", "syntax", "parse", "hush",
    ];

    fn check_words(what: &str, error: &str) {
        let mut words = error.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let of_rust = words.find(|word| OF_RUST.contains(word));
        assert_eq!(of_rust, None, "{what}: {error}");
    }

    /// Every setting of the file, tables with an entry.
    fn settings() -> Vec<String> {
        let resolved = Resolved::new(&[]).unwrap();
        let mut names: Vec<_> = show::rows(&resolved)
            .into_iter()
            .map(|(name, ..)| name.to_owned())
            .collect();
        let more = [
            "routes",
            "routes.x",
            "queue_concurrency",
            "queue_concurrency.x",
            "env",
            "env.X",
            "secrets",
            "secrets.X",
            "folders",
            "folders.x",
            "grants",
            "grants.x",
            "grants.x.env",
            "grants.x.http",
            "grants.x.tcp",
            "grants.x.keyvalue",
            "grants.x.folders",
            "grants.x.folders.x",
            "grants.x.temp",
            "grants.x.clocks",
            "grants.x.networks",
            "http",
            "http.tls",
            "signatures",
            "limits",
            "max_limits",
            "retry",
            "compile",
        ];
        names.extend(more.map(str::to_owned));
        names
    }

    #[test]
    fn a_wrong_value_in_the_file_is_told_without_words_of_rust() {
        let values = [
            "'hush'",
            "['hush']",
            "[[1]]",
            "{ key = 'hush' }",
            "{}",
            "-1",
            "0",
            "1.5",
            "nan",
            "99999999999",
            "99999999999999999999",
            "true",
            "{ debug = 1 }",
            "{ debug = {} }",
            "2026-11-22",
            "[{ name = 'hush' }]",
        ];
        for name in settings() {
            let mut refused = 0;
            for value in values {
                let text = format!("\n{name} = {value}\n");
                let Err(error) = Written::parse(Path::new("petiole.toml"), &text) else {
                    continue;
                };
                refused += 1;
                let error = error.to_string();
                let place = format!("petiole.toml: line 2: {name}");
                assert!(error.starts_with(&place), "{text}: {error}");
                check_words(
                    &text,
                    &error
                        .replace(&name, "")
                        .replace("no such setting here; there are", "")
                        .replace("\"hush\" is no rule", ""),
                );
            }
            assert!(refused > 2, "{name} takes anything");
        }
    }

    #[test]
    fn a_wrong_value_in_the_environment_is_told_without_words_of_rust() {
        let names = RefCell::new(Vec::new());
        env::read(|name| {
            names.borrow_mut().push(name.to_owned());
            None
        })
        .unwrap();
        for name in names.into_inner() {
            for value in ["x y", "-1", "1.5", "99999999999", "http://u:hush@h"] {
                let var = |asked: &str| (asked == name).then(|| OsString::from(value));
                if let Err(error) = env::read(var) {
                    let error = error.to_string();
                    assert!(error.contains(&name), "{error}");
                    check_words(&format!("{name}={value}"), &error);
                }
            }
        }
    }

    #[test]
    fn what_is_wanted_and_what_there_is_are_told() {
        for (text, said) in [
            (
                "concurrency = 'hush'",
                "line 1: concurrency: wants a whole number from 1 to 65535, and is a text",
            ),
            (
                "concurrency = 0",
                "line 1: concurrency: wants a whole number from 1 to 65535, and is another number",
            ),
            (
                "broker = 5",
                "line 1: broker: wants a text, and is a number",
            ),
            (
                "queues = 'hush'",
                "line 1: queues: wants a list, and is a text",
            ),
            (
                "queues = [\n 'a',\n 5,\n]",
                "line 3: queues: wants a text, and is a number",
            ),
            (
                "[http]\naddr = 'hush'",
                "line 2: http.addr: wants an IP address with its port, for example 127.0.0.1:8000, and is a text",
            ),
            (
                "http.tls.cert = []",
                "line 1: http.tls.cert: wants a path, and is a list",
            ),
            (
                "[http]\nrate = 1.5",
                "line 2: http.rate: wants a whole number from 1 to 4294967295, and is a number with a fraction",
            ),
            (
                "[limits]\ntime = 'hush'",
                "line 2: limits.time: wants a number of seconds, for example 30, and is a text",
            ),
            (
                "retry = { max = true }",
                "line 1: retry.max: wants a whole number from 0 to 4294967295, and is true",
            ),
            (
                "log_format = 'hush'",
                "line 1: log_format: wants one of plain, json, and is another text",
            ),
            (
                "memory_budget = 'hush'",
                "line 1: memory_budget: is not a size, for example",
            ),
            (
                "grants.x.http = ['hush']",
                "line 1: grants.x.http: \"hush\" is no rule: it is written",
            ),
            (
                "[[http.tokens]]\nname = 'ci'",
                "line 1: http.tokens: sha256 is missing",
            ),
            (
                "[http]\nadr = 'hush'",
                "line 2: http.adr: there is no such setting here; there are addr, token, ",
            ),
            (
                "[routes]\n'a.*' = 5",
                "line 2: routes.a.*: wants a queue name, or {",
            ),
        ] {
            let error = Written::parse(Path::new("petiole.toml"), text)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(&format!("petiole.toml: {said}")),
                "{text}: {error}"
            );
        }
    }
}
