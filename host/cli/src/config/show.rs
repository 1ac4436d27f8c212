//! The resolved configuration as TOML that could be read back, each value with where it comes from.

use std::fmt::Write;

use petiole_celery::Destination;
use toml::Value;

use super::keys::{self, Key};
use super::redact;
use super::resolve::{Resolved, Setting};

/// The text of `petiole config check`; passwords and tokens are `***`.
pub(crate) fn show(config: &Resolved) -> String {
    let rows = rows(config);
    let mut text = String::new();
    let mut table = "";
    for (key, value, origin) in &rows {
        let (of, name) = key.split_once('.').unwrap_or(("", key));
        if of != table {
            table = of;
            text.push_str(&format!("\n[{of}]\n"));
        }
        let line = match value {
            Shown::Value(value) => format!("{name} = {value}"),
            Shown::Secret => format!("# {name} is set: ***"),
            Shown::Unset => format!("# {name} is not set"),
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{line:<60} # {origin}");
    }
    if !config.routes.is_empty() {
        text.push_str("\n[routes]\n");
    }
    for route in &config.routes {
        let line = format!(
            "{} = {}",
            Value::from(route.value.0.as_str()),
            destination(&route.value.1)
        );
        let _ = writeln!(text, "{line:<60} # {}", route.origin);
    }
    text
}

/// A setting's value, as far as it is shown.
enum Shown {
    Value(Value),
    Secret,
    Unset,
}

type Row = (&'static str, Shown, String);

fn rows(c: &Resolved) -> Vec<Row> {
    vec![
        row(&keys::BROKER, &c.broker, |url| redact(url).into()),
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
        row(
            &keys::SOFT_SHUTDOWN_TIMEOUT,
            &c.soft_shutdown_timeout,
            seconds,
        ),
        row(&keys::RESULTS, &c.results, |url| redact(url).into()),
        row(&keys::RESULT_EXPIRES, &c.result_expires, seconds),
        row(&keys::RESULT_EXTENDED, &c.result_extended, |on| {
            (*on).into()
        }),
        row(&keys::STORE, &c.store, |url| redact(url).into()),
        row(&keys::CACHE, &c.cache, |dir| dir.as_str().into()),
        maybe(&keys::API, &c.api, |url| redact(url).into()),
        row(&keys::LOGLEVEL, &c.loglevel, |level| level.as_str().into()),
        row(&keys::LOG_FORMAT, &c.log_format, |format| {
            format.as_str().into()
        }),
        maybe(&keys::HTTP_ADDR, &c.http_addr, |addr| {
            addr.to_string().into()
        }),
        secret(&keys::HTTP_TOKEN, &c.http_token),
        row(&keys::LIMIT_TIME, &c.limit_time, seconds),
        maybe(&keys::LIMIT_SOFT_TIME, &c.limit_soft_time, seconds),
        row(&keys::LIMIT_MEMORY, &c.limit_memory, |size| {
            size.to_string().into()
        }),
        row(&keys::LIMIT_MAX_MEMORY, &c.limit_max_memory, |size| {
            size.to_string().into()
        }),
        row(&keys::LIMIT_RESULT, &c.limit_result, |size| {
            size.to_string().into()
        }),
        row(&keys::LIMIT_LOG, &c.limit_log, |size| {
            size.to_string().into()
        }),
        row(&keys::LIMIT_CHILDREN, &c.limit_children, |n| {
            i64::from(*n).into()
        }),
        row(&keys::RETRY_DELAY, &c.retry_delay, seconds),
        row(&keys::RETRY_MAX, &c.retry_max, |n| i64::from(*n).into()),
        row(&keys::COMPILE_TIME, &c.compile_time, seconds),
        row(&keys::COMPILE_MEMORY, &c.compile_memory, |size| {
            size.to_string().into()
        }),
    ]
}

fn row<T>(key: &Key, setting: &Setting<T>, value: impl Fn(&T) -> Value) -> Row {
    (
        key.name,
        Shown::Value(value(&setting.value)),
        setting.origin.clone(),
    )
}

fn maybe<T>(key: &Key, setting: &Setting<Option<T>>, value: impl Fn(&T) -> Value) -> Row {
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

fn seconds(seconds: &super::Seconds) -> Value {
    seconds.0.as_secs_f64().into()
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
    use super::super::resolve::Layer;
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_back() {
        let text = "broker = 'amqp://u:secret@h//'\nloglevel = 'debug'\n[http]\ntoken = '0123456789abcdef'\n\
                    [routes]\n'a.*' = 'q'\n'b.*' = { exchange = 'e', routing_key = 'k' }\n";
        let path = Path::new("petiole.toml");
        let shown = show(
            &Resolved::new(&[Layer::file(path, Written::parse(path, text).unwrap())]).unwrap(),
        );
        assert!(
            !shown.contains("secret") && !shown.contains("0123456789abcdef"),
            "{shown}"
        );
        let read = Written::parse(path, &shown).unwrap();
        assert_eq!(read.broker.as_deref(), Some("amqp://u:***@h//"));
        assert_eq!(read.routes.0.len(), 2);
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("loglevel") && line.ends_with("# petiole.toml")),
            "{shown}"
        );
    }
}
