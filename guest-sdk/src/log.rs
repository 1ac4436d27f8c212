//! The worker's log, which marks each line with the task's id.
//!
//! Printed output reaches the log as well; these functions give lines a level. A task that writes more
//! than its limit is ended.
//!
//! ```
//! # let rows = 3;
//! petiole::log::info(format!("read {rows} rows"));
//! ```

use crate::host;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// Details for finding a fault.
    Debug,
    /// Ordinary events.
    Info,
    /// Things that may need a look.
    Warn,
    /// Errors.
    Error,
}

macro_rules! at_level {
    ($($(#[$doc:meta])* $function:ident: $level:ident;)*) => { $(
        $(#[$doc])*
        pub fn $function(message: impl AsRef<str>) {
            host::log(Level::$level, message.as_ref());
        }
    )* };
}

at_level! {
    /// Writes a line of level trace.
    trace: Trace;
    /// Writes a line of level debug.
    debug: Debug;
    /// Writes a line of level info.
    info: Info;
    /// Writes a line of level warn.
    warn: Warn;
    /// Writes a line of level error.
    error: Error;
}
