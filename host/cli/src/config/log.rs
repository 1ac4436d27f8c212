//! The worker's log.

use super::key::settings;
use super::units::{LogFormat, LogLevel};

settings! {
    /// The worker's log.
    LogSettings {
        /// The level below which lines are left out.
        level: LogLevel = LogLevel::Info,
            Plain "loglevel" ["PETIOLE_LOGLEVEL"] "--loglevel";
        /// Celery's lines, or JSON.
        format: LogFormat = LogFormat::Plain,
            Plain "log_format" ["PETIOLE_LOG_FORMAT"] "--log-format";
    }
}
