//! `petiole:task/log`: lines of a task's log.

use tracing::Level;

use crate::limits::off_the_executor::{is_long, off_the_executor};
use crate::log::task_log::TaskLog;
use crate::task::bindings::petiole::task::log;

impl log::Host for TaskLog {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::TRACE,
            log::Level::Debug => Level::DEBUG,
            log::Level::Info => Level::INFO,
            log::Level::Warn => Level::WARN,
            log::Level::Error => Level::ERROR,
        };
        let logged = off_the_executor(is_long(message.len()), || self.line(level, &message));
        Ok(logged?)
    }
}
