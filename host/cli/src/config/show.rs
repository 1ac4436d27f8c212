//! The resolved configuration as TOML that could be read back, each value with where it comes from.

use std::fmt::Write;

use petiole_celery::Destination;
use toml::Value;

use super::keys::{self, Key};
use super::layer::Setting;
use super::resolve::Resolved;
use super::values::Privacy;

/// The text of `petiole config check`; passwords, tokens and secrets are `***`.
pub(crate) fn show(config: &Resolved) -> String {
    let mut text = String::new();
    let mut table = "";
    for (key, shown, origin) in &rows(config) {
        let (of, name) = key.split_once('.').unwrap_or(("", key));
        if of != table {
            table = of;
            head(&mut text, of);
        }
        match shown {
            Shown::Value(value) => line(&mut text, &format!("{name} = {value}"), origin),
            Shown::Secret => line(&mut text, &format!("# {name} is set: ***"), origin),
            Shown::Unset => line(&mut text, &format!("# {name} is not set"), origin),
        }
    }
    tables(&mut text, config);
    text
}

fn tables(text: &mut String, c: &Resolved) {
    let routes = c.routes.iter().map(|route| {
        let (glob, to) = &route.value;
        (glob, destination(to), &route.origin)
    });
    table(text, "routes", routes);
    let caps = c.queue_concurrency.iter();
    let caps = caps.map(|(queue, cap)| (queue, i64::from(cap.value.get()).into(), &cap.origin));
    table(text, "queue_concurrency", caps);
    for (name, values, privacy) in [
        ("env", &c.env, Privacy::Public),
        ("secrets", &c.secrets, Privacy::Secret),
    ] {
        let values = values.iter();
        let shown = values.map(|(name, from)| (name, from.value.shown(privacy), &from.origin));
        table(text, name, shown);
    }
    let folders = c.folders.iter().map(|(name, folder)| {
        let path = folder.value.display().to_string();
        (name, path.into(), &folder.origin)
    });
    table(text, "folders", folders);
    for grant in &c.grants {
        let (glob, allowed) = &grant.value;
        // Serializing plain data into a table can't fail.
        let allowed = toml::Table::try_from(allowed).unwrap_or_default();
        let allowed = allowed
            .iter()
            .map(|(name, value)| (name, value.clone(), &grant.origin));
        head(text, &format!("grants.{}", quoted(glob)));
        entries(text, allowed);
    }
}

fn table<'a>(
    text: &mut String,
    name: &str,
    rows: impl Iterator<Item = (&'a String, Value, &'a String)>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        head(text, name);
        entries(text, rows);
    }
}

fn head(text: &mut String, name: &str) {
    // Writing to a string can't fail, here and below.
    let _ = write!(text, "\n[{name}]\n");
}

fn entries<'a>(text: &mut String, rows: impl Iterator<Item = (&'a String, Value, &'a String)>) {
    for (name, value, origin) in rows {
        line(text, &format!("{} = {value}", quoted(name)), origin);
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

/// A setting's value, as far as it is shown.
pub(super) enum Shown {
    Value(Value),
    Secret,
    Unset,
}

/// A setting's key, value and origin.
pub(super) type Row = (&'static str, Shown, String);

pub(super) fn rows(c: &Resolved) -> Vec<Row> {
    let mut rows = top(c);
    rows.extend(c.http.top_rows());
    rows.extend(http(c));
    rows.extend(c.http.http_rows());
    rows.extend(c.http.signature_rows());
    rows.extend(c.limits.rows());
    rows.extend(c.max_limits.rows());
    rows.extend([
        row(&keys::RETRY_DELAY, &c.retry_delay, |delay| (*delay).into()),
        row(&keys::RETRY_MAX, &c.retry_max, |n| i64::from(*n).into()),
        row(&keys::COMPILE_TIME, &c.compile_time, |time| (*time).into()),
        row(&keys::COMPILE_MEMORY, &c.compile_memory, |size| {
            size.to_string().into()
        }),
    ]);
    rows
}

fn http(c: &Resolved) -> Vec<Row> {
    vec![
        maybe(&keys::HTTP_ADDR, &c.http_addr, |addr| {
            addr.to_string().into()
        }),
        secret(&keys::HTTP_TOKEN, &c.http_token),
    ]
}

/// What is in no table.
fn top(c: &Resolved) -> Vec<Row> {
    vec![
        row(&keys::BROKER, &c.broker, |url| url.to_string().into()),
        row(&keys::QUEUES, &c.queues, |queues| queues.clone().into()),
        row(&keys::DEFAULT_QUEUE, &c.default_queue, |queue| {
            queue.as_str().into()
        }),
        row(&keys::QUARANTINE_QUEUE, &c.quarantine_queue, |queue| {
            queue.as_str().into()
        }),
        row(&keys::HOSTNAME, &c.hostname, |name| name.as_str().into()),
        row(&keys::CONCURRENCY, &c.concurrency, |n| {
            i64::from(n.get()).into()
        }),
        row(&keys::PREFETCH_MULTIPLIER, &c.prefetch_multiplier, |n| {
            i64::from(n.get()).into()
        }),
        row(&keys::DELIVERY_LIMIT, &c.delivery_limit, |n| {
            i64::from(n.get()).into()
        }),
        row(
            &keys::SOFT_SHUTDOWN_TIMEOUT,
            &c.soft_shutdown_timeout,
            |time| (*time).into(),
        ),
        row(&keys::MEMORY_BUDGET, &c.memory_budget, |size| {
            size.to_string().into()
        }),
        row(&keys::RESULTS, &c.results, |url| url.to_string().into()),
        row(&keys::RESULT_EXPIRES, &c.result_expires, |time| {
            (*time).into()
        }),
        row(&keys::RESULT_EXTENDED, &c.result_extended, |on| {
            (*on).into()
        }),
        row(&keys::STORE, &c.store, |url| url.to_string().into()),
        row(&keys::CACHE, &c.cache, |dir| dir.as_str().into()),
        maybe(&keys::API, &c.api, |url| url.to_string().into()),
        row(&keys::LOGLEVEL, &c.loglevel, |level| level.as_str().into()),
        row(&keys::LOG_FORMAT, &c.log_format, |format| {
            format.as_str().into()
        }),
        maybe(&keys::KEYVALUE, &c.keyvalue, |url| url.to_string().into()),
    ]
}

pub(super) fn row<T>(key: &Key, setting: &Setting<T>, value: impl Fn(&T) -> Value) -> Row {
    (
        key.name,
        Shown::Value(value(&setting.value)),
        setting.origin.clone(),
    )
}

pub(super) fn maybe<T>(
    key: &Key,
    setting: &Setting<Option<T>>,
    value: impl Fn(&T) -> Value,
) -> Row {
    let shown = setting
        .value
        .as_ref()
        .map_or(Shown::Unset, |it| Shown::Value(value(it)));
    (key.name, shown, setting.origin.clone())
}

fn secret(key: &Key, setting: &Setting<Option<String>>) -> Row {
    let shown = setting
        .value
        .as_ref()
        .map_or(Shown::Unset, |_| Shown::Secret);
    (key.name, shown, setting.origin.clone())
}

fn destination(to: &Destination) -> Value {
    if to.exchange.is_empty() {
        return to.routing_key.as_str().into();
    }
    let table = [("exchange", &to.exchange), ("routing_key", &to.routing_key)];
    Value::Table(
        table
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.as_str().into()))
            .collect(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::super::Written;
    use super::super::layer::Layer;
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_back() {
        let text = "broker = 'amqp://u:secret@h//'\nloglevel = 'debug'\nkeyvalue = 'redis://:secret@h/1'\n\
                    [http]\ntoken = '0123456789abcdef'\n[limits]\nhost_calls = 5\n[max_limits]\ndisk = '1GiB'\n\
                    [routes]\n'a.*' = 'q'\n'b.*' = { exchange = 'e', routing_key = 'k' }\n\
                    [queue_concurrency]\n'a queue' = 2\n[env]\nGREETING = 'hello'\n\
                    [secrets]\nPASSWORD = 'secret'\nURL = { file = 'url.txt' }\n[folders]\ndata = 'data'\n\
                    [grants.'shop.*']\nsecrets = ['PASSWORD', 'URL']\nhttp = ['GET https://x.example.com']\n\
                    folders = { data = 'read-write' }\ntemp = '1MiB'\nclocks = false\nnetworks = ['10.0.0.0/8']\n";
        let path = Path::new("/etc/petiole.toml");
        let resolved = |text: &str| {
            Resolved::new(&[Layer::file(path, Written::parse(path, text).unwrap())]).unwrap()
        };
        let shown = show(&resolved(text));
        assert!(
            !shown.contains("secret@")
                && !shown.contains("'secret'")
                && !shown.contains("\"secret\""),
            "{shown}"
        );
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        let read = Written::parse(path, &shown).unwrap();
        assert_eq!(read.broker.as_deref(), Some("amqp://u:***@h//"));
        assert_eq!(read.routes.0.len(), 2);
        assert!(shown.contains("GREETING = \"hello\"") && shown.contains("PASSWORD = \"***\""));
        assert!(
            shown.contains("URL = { file = \"/etc/url.txt\" }"),
            "{shown}"
        );
        assert_eq!(read.folders.0, [("data".to_owned(), "/etc/data".into())]);
        assert_eq!(read.grants.0, Written::parse(path, text).unwrap().grants.0);
        let limits = resolved(&shown).limits.limits().unwrap();
        assert_eq!(limits.host_calls, 5);
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("loglevel") && line.ends_with("# /etc/petiole.toml")),
            "{shown}"
        );
    }
}
