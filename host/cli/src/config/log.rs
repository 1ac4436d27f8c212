//! The worker's log.

use super::key::settings;
use super::units::{LogFormat, LogLevel};

settings! {
    /// The worker's log.
    LogSettings {
        /// What is left out below it.
        level: LogLevel = LogLevel::Info,
            Plain "loglevel" ["PETIOLE_LOGLEVEL"] "--loglevel";
        /// Celery's lines, or JSON.
        format: LogFormat = LogFormat::Plain,
            Plain "log_format" ["PETIOLE_LOG_FORMAT"] "--log-format";
    }
}
