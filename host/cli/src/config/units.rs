//! Values with a unit, as they are written in flags, the environment and the file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use petiole_permits::{Size, SizeError};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The longest time that a setting may name: 10 years. Beyond it, it is taken for a mistake.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// A length of time, written as seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seconds(pub Duration);

/// A size, or a part of all that there is: `2GiB`, `50%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Size(Size),
    /// From 1 to 100.
    Percent(u8),
}

/// A number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Count(pub u64);

/// Celery's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[clap(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
    /// Celery's name; the same as error here.
    #[value(alias = "fatal")]
    Critical,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Plain,
    Json,
}

impl Seconds {
    /// Of whole seconds.
    pub(crate) const fn whole(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn checked(seconds: f64) -> Result<Self, String> {
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            return Err(format!(
                "{seconds} is not a number of seconds from 0 to {MAX_SECONDS}"
            ));
        }
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text
            .trim()
            .parse::<f64>()
            .map_err(|_| format!("{text:?} is not a number of seconds, for example 30"))?;
        Self::checked(seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Share {
    /// In whole MiB, where that is not none.
    pub(crate) fn of(self, whole: u64) -> Size {
        match self {
            Self::Size(size) => size,
            Self::Percent(percent) => Size::new(whole / 100 * u64::from(percent)).in_whole_mib(),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.trim().strip_suffix('%') else {
            return text
                .parse()
                .map(Self::Size)
                .map_err(|error: SizeError| error.to_string());
        };
        match percent.trim_end().parse() {
            Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
            _ => Err(format!(
                "{text:?} is not a part of the memory: from 1% to 100%"
            )),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Size(size) => size.serialize(serializer),
            Self::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeOrPart;
        impl Visitor<'_> for SizeOrPart {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size or a part of the memory, for example \"2GiB\" or \"50%\"")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Share, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeOrPart)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.trim().parse().ok();
        // TOML has no larger numbers.
        let count = count.filter(|count| i64::try_from(*count).is_ok());
        count
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number, for example 1000"))
    }
}

/// Reads names in either case, from whichever layer.
macro_rules! read_by_name {
    ($($type:ty: $names:expr;)*) => {$(
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                <Self as clap::ValueEnum>::from_str(text, true)
                    .map_err(|_| format!("{text:?} is none of {}", $names.join(", ")))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| de::Error::unknown_variant(&text, &$names))
            }
        }
    )*};
}
read_by_name! {
    LogLevel: ["debug", "info", "warning", "error", "critical"];
    LogFormat: ["plain", "json"];
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, bytes) in [
            ("2GiB", 2 << 30),
            ("1000", 1000),
            ("50%", 511 << 20),
            (" 1 % ", 10 << 20),
            ("100%", 1023 << 20),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.of((1 << 30) - 1), Size::new(bytes), "{text}");
        }
        assert_eq!(Share::Percent(50).of(1000), Size::new(500));
        for text in ["", "%", "0%", "101%", "-1%", "0.5%", "much"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_read_alike_in_every_layer() {
        for (text, level) in [
            ("Debug", LogLevel::Debug),
            ("warn", LogLevel::Warning),
            ("WARNING", LogLevel::Warning),
            ("fatal", LogLevel::Critical),
        ] {
            assert_eq!(text.parse(), Ok(level));
            assert_eq!(toml::Value::from(text).try_into(), Ok(level));
        }
        assert_eq!(toml::Value::from("JSON").try_into(), Ok(LogFormat::Json));
    }

    #[test]
    fn seconds() {
        assert_eq!("1.5".parse(), Ok(Seconds(Duration::from_millis(1500))));
        for text in ["", "-1", "NaN", "inf", "1e300", "5m"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
