//! What a task writes, on its way to the worker's log.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;

/// Longer lines of output are broken.
const MAX_LINE: usize = 8 * 1024;

/// Log, stdout and stderr of one call, which share a limit.
#[derive(Debug, Clone)]
pub(crate) struct TaskLog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    task_id: String,
    /// Bytes that may still be written.
    left: usize,
    /// Bytes past the limit.
    dropped: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A guest's output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl TaskLog {
    /// `limit`: bytes of all lines together.
    pub(crate) fn new(task_id: &str, limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            task_id: task_id.to_owned(),
            left: limit,
            dropped: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })))
    }

    /// One line of `petiole:task/log`.
    pub(crate) fn line(&self, level: Level, message: &str) {
        let mut state = self.state();
        let kept = state.take(message.len());
        let message = message
            .get(..message.floor_char_boundary(kept))
            .unwrap_or_default();
        if kept > 0 || message.is_empty() {
            state.emit(level, message);
        }
    }

    /// Bytes of an output stream: whole lines are logged, the rest waits for its end.
    pub(crate) fn write(&self, output: Output, bytes: &[u8]) {
        let mut state = self.state();
        let kept = state.take(bytes.len());
        let mut buffer = std::mem::take(state.buffer(output));
        for byte in bytes.iter().take(kept) {
            match byte {
                b'\n' => state.emit_bytes(output, &mut buffer),
                byte => {
                    buffer.push(*byte);
                    if buffer.len() >= MAX_LINE {
                        state.emit_bytes(output, &mut buffer);
                    }
                }
            }
        }
        *state.buffer(output) = buffer;
    }

    /// Logs unfinished lines, and how much went over the limit.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        for output in [Output::Stdout, Output::Stderr] {
            let mut rest = std::mem::take(state.buffer(output));
            if !rest.is_empty() {
                state.emit_bytes(output, &mut rest);
            }
        }
        if state.dropped > 0 {
            tracing::warn!(
                target: "petiole::task", task_id = state.task_id, dropped = state.dropped,
                "the task wrote more than its log limit; the rest was dropped (bytes: {})", state.dropped
            );
        }
    }

    /// The state is whole between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many of so many bytes may be written.
    fn take(&mut self, bytes: usize) -> usize {
        let kept = bytes.min(self.left);
        self.left -= kept;
        self.dropped = self.dropped.saturating_add(bytes - kept);
        kept
    }

    fn buffer(&mut self, output: Output) -> &mut Vec<u8> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }

    fn emit_bytes(&self, output: Output, line: &mut Vec<u8>) {
        let level = match output {
            Output::Stdout => Level::INFO,
            Output::Stderr => Level::WARN,
        };
        self.emit(level, String::from_utf8_lossy(line).trim_end_matches('\r'));
        line.clear();
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

/// Control characters would let a task forge log lines and drive terminals.
fn escaped(message: &str) -> Cow<'_, str> {
    if !message.chars().any(is_unsafe) {
        return Cow::Borrowed(message);
    }
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        if is_unsafe(c) {
            // writing to a string does not fail
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Controls, line and paragraph separators, and the marks that reorder text.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("plain\tüñí"), "plain\tüñí");
        assert_eq!(
            escaped("a\u{1b}[31m\nb\u{202e}"),
            "a\\u{1b}[31m\\nb\\u{202e}"
        );
    }

    #[test]
    fn the_limit_is_shared_and_the_rest_is_counted() {
        let log = TaskLog::new("id", 10);
        log.write(Output::Stdout, b"12345");
        log.line(Level::INFO, "abcd");
        log.write(Output::Stderr, b"xyz");
        let state = log.state();
        assert_eq!((state.left, state.dropped), (0, 2));
        assert_eq!(
            (state.stdout.as_slice(), state.stderr.as_slice()),
            (&b"12345"[..], &b"x"[..])
        );
    }

    #[test]
    fn lines_leave_the_buffer() {
        let log = TaskLog::new("id", usize::MAX);
        log.write(Output::Stdout, b"one\ntwo");
        assert_eq!(log.state().stdout, b"two");
        log.write(Output::Stdout, &vec![b'x'; MAX_LINE]);
        assert_eq!(log.state().stdout, b"xxx");
        log.finish();
        assert!(log.state().stdout.is_empty());
    }
}
