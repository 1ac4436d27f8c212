//! A task's output, on its way to the worker's log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use petiole_permits::{Limit, Redactor};
use tracing::Level;

use crate::limits::exceeded::LimitExceeded;
use crate::log::escape::escaped;
use crate::log::last_words::is_note;

/// Longer lines of output are broken.
const MAX_LINE: usize = 8 * 1024;

/// The least that a line counts as, in bytes: about as much as the worker writes before it. Else empty lines
/// would fill a disk within the limit.
const MIN_LINE: usize = 64;

/// The end of stderr that is kept, in bytes, for what a guest that crashes says last.
const STDERR_KEPT: usize = 32 * 1024;

/// Log, stdout and stderr of one call, which share a limit.
#[derive(Debug, Clone)]
pub(crate) struct TaskLog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    task_id: String,
    redactor: Redactor,
    /// Bytes that may be written.
    limit: usize,
    /// Bytes that were: more than the limit only when the task is about to end for it.
    written: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The last lines of stderr, as they were written.
    last: VecDeque<Vec<u8>>,
}

/// A guest's output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl TaskLog {
    /// `limit`: bytes of all lines together. `redactor`: what lines must not show.
    pub(crate) fn new(task_id: &str, limit: usize, redactor: Redactor) -> Self {
        Self(Arc::new(Mutex::new(State {
            task_id: task_id.to_owned(),
            redactor,
            limit,
            written: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            last: VecDeque::new(),
        })))
    }

    /// One line of `petiole:task/log`: as much of it as the limit has room for.
    pub(crate) fn line(&self, level: Level, message: &str) -> Result<(), LimitExceeded> {
        let mut state = self.state();
        // first, so that the limit cuts no secret in two
        let message = &*state.redactor.redact(message).into_owned();
        let kept = state.take(message.len());
        let kept = message.floor_char_boundary(kept);
        if kept > 0 || state.within().is_ok() {
            state.fill_up(kept);
            state.emit(level, message.get(..kept).unwrap_or_default());
        }
        state.within()
    }

    /// Bytes of an output stream: whole lines are logged, the rest waits for its end.
    pub(crate) fn write(&self, output: Output, bytes: &[u8]) -> Result<(), LimitExceeded> {
        let mut state = self.state();
        let kept = state.take(bytes.len());
        let mut buffer = std::mem::take(state.buffer(output));
        for byte in bytes.iter().take(kept) {
            buffer.push(*byte);
            if *byte == b'\n' {
                state.emit_bytes(output, &mut buffer);
            } else if !buffer.len().is_multiple_of(MAX_LINE) {
                continue;
            } else {
                state.emit_part(output, &mut buffer);
            }
            if state.written > state.limit {
                break;
            }
        }
        *state.buffer(output) = buffer;
        state.within()
    }

    /// Logs unfinished lines: of one that the limit has cut, not what may be a part of a secret. Returns how much
    /// was logged in all, in bytes.
    pub(crate) fn finish(&self) -> usize {
        let mut state = self.state();
        for output in [Output::Stdout, Output::Stderr] {
            let mut rest = std::mem::take(state.buffer(output));
            if state.within().is_err() {
                state.emit_part(output, &mut rest);
            } else if !rest.is_empty() {
                state.emit_bytes(output, &mut rest);
            }
        }
        state.written.min(state.limit)
    }

    /// The last lines of stderr, without secrets. The guest has ended.
    pub(crate) fn last_of_stderr(&self) -> String {
        self.finish();
        let mut state = self.state();
        let bytes: Vec<u8> = state.last.drain(..).flatten().collect();
        let text = String::from_utf8_lossy(&bytes);
        state.redactor.redact(&text).into_owned()
    }

    /// The state is whole between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts bytes, and returns how many of them the limit has room for.
    fn take(&mut self, bytes: usize) -> usize {
        let left = self.limit.saturating_sub(self.written);
        self.written = self.written.saturating_add(bytes);
        bytes.min(left)
    }

    fn within(&self) -> Result<(), LimitExceeded> {
        if self.written <= self.limit {
            Ok(())
        } else {
            Err(LimitExceeded::new(Limit::Log, self.limit, self.written))
        }
    }

    fn buffer(&mut self, output: Output) -> &mut Vec<u8> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }

    fn emit_bytes(&mut self, output: Output, line: &mut Vec<u8>) {
        let level = match output {
            Output::Stdout => Level::INFO,
            Output::Stderr => Level::WARN,
        };
        self.fill_up(line.len());
        let text = String::from_utf8_lossy(line);
        if output == Output::Stdout || !is_note(&text) {
            self.emit(
                level,
                self.redactor.redact(&text).trim_end_matches(['\r', '\n']),
            );
        }
        let line = std::mem::take(line);
        if output == Output::Stderr {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: Vec<u8>) {
        self.last.push_back(line);
        while self.last.iter().map(Vec::len).sum::<usize>() > STDERR_KEPT {
            self.last.pop_front();
        }
    }

    /// A line that is broken off: what may be the beginning of a secret stays behind, be it all of it.
    fn emit_part(&mut self, output: Output, line: &mut Vec<u8>) {
        let rest = line.split_off(line.len().saturating_sub(self.redactor.unfinished(line)));
        if !line.is_empty() {
            self.emit_bytes(output, line);
        }
        *line = rest;
    }

    /// Counts the bytes that a line is short of [`MIN_LINE`].
    fn fill_up(&mut self, line: usize) {
        let short = MIN_LINE.saturating_sub(line);
        self.written = self.written.saturating_add(short);
    }

    fn emit(&self, level: Level, message: &str) {
        let (task_id, message) = (&self.task_id, escaped(message));
        // tracing wants the level when it is compiled
        match level {
            Level::TRACE => tracing::trace!(target: "petiole::task", task_id, "{message}"),
            Level::DEBUG => tracing::debug!(target: "petiole::task", task_id, "{message}"),
            Level::INFO => tracing::info!(target: "petiole::task", task_id, "{message}"),
            Level::WARN => tracing::warn!(target: "petiole::task", task_id, "{message}"),
            Level::ERROR => tracing::error!(target: "petiole::task", task_id, "{message}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_shared_and_ends_the_task() {
        let log = TaskLog::new("id", 80, Redactor::default());
        assert_eq!(log.write(Output::Stdout, b"12345"), Ok(()));
        assert_eq!(log.line(Level::INFO, "abcd"), Ok(()));
        let exceeded = log.write(Output::Stderr, b"123456789012").unwrap_err();
        assert_eq!(
            exceeded.to_string(),
            "log limit of 80 bytes exceeded: the task wrote 81 bytes"
        );
        {
            let state = log.state();
            assert_eq!(
                (state.stdout.as_slice(), state.stderr.as_slice()),
                (&b"12345"[..], &b"12345678901"[..])
            );
        }
        assert!(log.line(Level::INFO, "").is_err());
        assert_eq!(log.finish(), 80);
    }

    #[test]
    fn lines_leave_the_buffer() {
        let log = TaskLog::new("id", usize::MAX, Redactor::default());
        log.write(Output::Stdout, b"one\ntwo").unwrap();
        assert_eq!(log.state().stdout, b"two");
        log.write(Output::Stdout, &vec![b'x'; MAX_LINE]).unwrap();
        assert_eq!(log.state().stdout, b"xxx");
        assert_eq!(log.finish(), MIN_LINE + 3 + MAX_LINE + MIN_LINE - 3);
        assert!(log.state().stdout.is_empty());
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged of what is written to stdout.
    fn logged(secret: &str, limit: usize, text: &str) -> Vec<String> {
        logged_of(Output::Stdout, secret, limit, text)
    }

    fn logged_of(output: Output, secret: &str, limit: usize, text: &str) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let redactor = Redactor::new(&[secret.into()]);
            let log = TaskLog::new("id", limit, redactor);
            let _ = log.write(output, text.as_bytes());
            log.finish();
        });
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let message = |line: &str| {
            let (_, message) = line.split_once("petiole::task: ").unwrap();
            message.strip_suffix(" task_id=\"id\"").unwrap().to_owned()
        };
        lines.lines().map(message).collect()
    }

    #[test]
    fn rusts_note_of_a_backtrace_is_left_out() {
        let text = "panicked at src/lib.rs:1:2:\nno\nnote: run with `RUST_BACKTRACE=1` environment variable to \
                    display a backtrace\nlast\n";
        let lines = logged_of(Output::Stderr, "hush", usize::MAX, text);
        assert_eq!(lines, ["panicked at src/lib.rs:1:2:", "no", "last"]);
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_line_is_broken() {
        let long: String = (0..2000).map(|n| format!("{n}-")).collect();
        let x = |count| "x".repeat(count);
        for (secret, limit, text, lines) in [
            // it has no end within a line
            (
                &*long,
                usize::MAX,
                format!("{long}\n"),
                vec!["***".to_owned()],
            ),
            (&long, usize::MAX, long.clone(), vec!["***".to_owned()]),
            (
                &long,
                usize::MAX,
                format!("{}{long}\n", x(100)),
                vec![x(100), "***".to_owned()],
            ),
            (&long, 8500, long.clone(), vec![]),
            // the limit is within it
            ("hunter2-3", 6, "hunter2-3".to_owned(), vec![]),
            (
                "hunter2-3",
                70,
                format!("{}\nhunter2-3", x(64)),
                vec![x(64)],
            ),
            (
                "hunter2-3",
                8,
                "a hunter2-3".to_owned(),
                vec!["a ".to_owned()],
            ),
            // its end is as its beginning, and the line's end
            (
                "abca",
                usize::MAX,
                format!("{}abca y\n", x(MAX_LINE - 4)),
                vec![x(MAX_LINE - 4), "*** y".to_owned()],
            ),
            ("abca", 8, "1234abca5".to_owned(), vec!["1234".to_owned()]),
            // a text that only begins like the secret is shown
            (
                "abca",
                usize::MAX,
                format!("{}abcd\n", x(MAX_LINE - 2)),
                vec![x(MAX_LINE - 2), "abcd".to_owned()],
            ),
            ("abca", usize::MAX, "abc".to_owned(), vec!["abc".to_owned()]),
        ] {
            let found = logged(secret, limit, &text);
            assert!(found == lines, "{text:.20} {limit}: {found:.20?}");
        }
    }

    #[test]
    fn the_end_of_stderr_is_kept_without_secrets() {
        let log = TaskLog::new("id", usize::MAX, Redactor::new(&["hunter2-3".into()]));
        log.write(Output::Stdout, b"not this\n").unwrap();
        for _ in 0..2 * STDERR_KEPT / 1024 {
            log.write(Output::Stderr, &[b'x'; 1023]).unwrap();
            log.write(Output::Stderr, b"\n").unwrap();
        }
        log.write(Output::Stderr, b"the key is hunter2-3").unwrap();
        let kept = log.last_of_stderr();
        assert!(kept.ends_with("x\nthe key is ***"), "{kept}");
        assert_eq!(kept.lines().count(), STDERR_KEPT / 1024);
        assert_eq!(log.last_of_stderr(), "");
    }

    #[test]
    fn empty_lines_count() {
        let log = TaskLog::new("id", 10 * MIN_LINE, Redactor::default());
        log.write(Output::Stdout, &[b'\n'; 10]).unwrap();
        assert!(log.write(Output::Stdout, b"\n").is_err());
        let log = TaskLog::new("id", 10 * MIN_LINE, Redactor::default());
        for _ in 0..10 {
            log.line(Level::INFO, "").unwrap();
        }
        assert!(log.line(Level::INFO, "").is_err());
    }
}
