//! Log lines: Celery's, or JSON.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LogLevel};

/// Starts logging to stderr.
pub(crate) fn init(level: LogLevel, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(std::io::stderr);
    // A second call has nothing to start.
    let _ = match format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Plain => builder.event_format(Plain).try_init(),
    };
}

/// Petiole's own lines count from `level` on, the audit's always, and other libraries' from warning on, except
/// lapin's: those quote message bodies, and tell as errors what is none (a queue that was looked for and has to be
/// declared). What matters of them the broker says itself.
fn filter(level: LogLevel) -> EnvFilter {
    let own = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    };
    let others = if matches!(level, LogLevel::Debug | LogLevel::Info) {
        "warn"
    } else {
        "error"
    };
    EnvFilter::new(format!(
        "{others},lapin=off,petiole={own},petiole::audit=info"
    ))
}

/// `[2026-11-22 15:00:00,123: INFO/petiole] message`, in local time.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = jiff::Zoned::now();
        let level = match *event.metadata().level() {
            Level::TRACE => "TRACE",
            Level::DEBUG => "DEBUG",
            Level::INFO => "INFO",
            Level::WARN => "WARNING",
            Level::ERROR => "ERROR",
        };
        // A module's path is of no use to an operator.
        let source = event
            .metadata()
            .target()
            .split("::")
            .next()
            .unwrap_or_default();
        write!(
            out,
            "[{},{:03}: {level}/{source}] ",
            now.strftime("%Y-%m-%d %H:%M:%S"),
            now.millisecond()
        )?;
        let mut line = Line::default();
        event.record(&mut line);
        writeln!(out, "{}", line.text())
    }
}

/// An event's message and fields.
#[derive(Default)]
struct Line {
    message: String,
    /// Of a line that a task wrote.
    task_id: Option<String>,
    fields: String,
    traceback: String,
}

/// Fields that Celery's lines say in their text already; JSON lines have them apart.
const IN_MESSAGE: [&str; 3] = ["task", "id", "seconds"];
/// Figures of a task's usage that are in JSON lines only.
const IN_JSON: [&str; 4] = ["host_calls", "log", "bytes_in", "bytes_out"];
const MIB: u64 = 1 << 20;

impl Line {
    fn text(&self) -> String {
        let mut text = match &self.task_id {
            Some(id) => format!("task[{}]: {}", escaped(id), escaped(&self.message)),
            None => escaped(&self.message),
        };
        text.push_str(&self.fields);
        for frame in self.traceback.lines() {
            text.push_str("\n    ");
            text.push_str(&escaped(frame));
        }
        text
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "task_id" => self.task_id = Some(value.to_owned()),
            "traceback" => value.clone_into(&mut self.traceback),
            name if IN_MESSAGE.contains(&name) || IN_JSON.contains(&name) => {}
            // Writing to a string can't fail.
            name => drop(write!(self.fields, " {name}={}", escaped(value))),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match field.name() {
            "cpu" => drop(write!(self.fields, " cpu={value:.3}s")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let (whole, tenths) = (value / MIB, value % MIB * 10 / MIB);
        match field.name() {
            "peak_memory" => drop(write!(self.fields, " memory={whole}.{tenths}MiB")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The text, which can't forge a log line or drive a terminal, with its tabs escaped too: they would move columns.
pub(crate) fn escaped(text: &str) -> String {
    petiole_runtime::escaped(text).replace('\t', "\\t")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_audit_is_logged_at_any_level() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(LogLevel::Critical))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "petiole", "not this");
            tracing::info!(target: "petiole::audit", "but this");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("but this") && !text.contains("not"), "{text}");
    }

    #[test]
    fn a_plain_line_is_celerys_and_one_line() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Plain)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "petiole::task", task_id = "1", "half\rway");
            tracing::info!(target: "petiole", task = "a.b", seconds = 1.5, cpu = 0.25, peak_memory = 1_310_720_usize, host_calls = 7_u64, "Task a.b succeeded");
            tracing::info!(target: "petiole", task = "a.b", id = "1", queue = "q\n", "Task a.b[1] said {}", "x\n[forged] \u{1b}[2J");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let (times, lines): (Vec<_>, Vec<_>) = text
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .unzip();
        assert!(
            times
                .iter()
                .all(|time| time.len() == "[2026-11-22 15:00:00,123".len()),
            "{text}"
        );
        let said = "INFO/petiole] Task a.b[1] said x\\n[forged] \\u{1b}[2J queue=q\\n";
        let used = "INFO/petiole] Task a.b succeeded cpu=0.250s memory=1.2MiB";
        assert_eq!(lines, ["WARNING/petiole] task[1]: half\\rway", used, said]);
    }
}
