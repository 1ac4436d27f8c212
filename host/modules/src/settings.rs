use std::time::Duration;

use petiole_permits::Capabilities;
use serde::{Deserialize, Serialize};

/// What a manifest says of a task. Where it says nothing, the worker's own settings hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSettings {
    /// The task's full name, in place of module name + `.` + function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The task is ended after this time. In seconds, to the millisecond, as all times here.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Duration>,
    /// The task is asked to end after this time.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub soft_time_limit: Option<Duration>,
    /// The task is ended after this time on a CPU.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub cpu_time_limit: Option<Duration>,
    /// The task is asked to end after this time on a CPU.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub soft_cpu_time_limit: Option<Duration>,
    /// Bytes of linear memory: a number, or a text such as `64MiB`, as all sizes here.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// How often a task that asks for it is run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// How long a retry waits that names no time.
    #[serde(with = "seconds", skip_serializing_if = "Option::is_none")]
    pub default_retry_delay: Option<Duration>,
    /// Bytes of the task's result as JSON.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub max_result: Option<u64>,
    /// Elements of all tables together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_table_elements: Option<u64>,
    /// Bytes of the message's body.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub max_arguments: Option<u64>,
    /// Bytes written to log, stdout and stderr.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub max_log: Option<u64>,
    /// Handles and resources at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_handles: Option<u64>,
    /// Random bytes.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub max_random: Option<u64>,
    /// Calls of imported functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_host_calls: Option<u64>,
    /// Signatures that it sends, with those that are nested in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_children: Option<u64>,
    /// Tasks that may come of it, at all levels together, where it is the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_descendants: Option<u64>,
    /// Levels of tasks that send others, where it is the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
    /// Outbound requests and connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Bytes written to folders, the temporary folder and key-value storage.
    #[serde(with = "bytes", skip_serializing_if = "Option::is_none")]
    pub max_disk: Option<u64>,
    /// What the task may reach beyond its sandbox, in place of the module's [`Manifest::capabilities`].
    ///
    /// [`Manifest::capabilities`]: crate::Manifest::capabilities
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
}

impl TaskSettings {
    /// These settings, and where they say nothing, the others'. A soft time limit gives way to a hard
    /// one that is not longer.
    pub(crate) fn or(&self, defaults: &Self) -> Self {
        let time_limit = self.time_limit.or(defaults.time_limit);
        let cpu_time_limit = self.cpu_time_limit.or(defaults.cpu_time_limit);
        let below = |soft: Option<Duration>, hard: Option<Duration>| {
            soft.filter(|soft| hard.is_none_or(|hard| *soft < hard))
        };
        Self {
            name: self.name.clone(),
            time_limit,
            soft_time_limit: below(
                self.soft_time_limit.or(defaults.soft_time_limit),
                time_limit,
            ),
            cpu_time_limit,
            soft_cpu_time_limit: below(
                self.soft_cpu_time_limit.or(defaults.soft_cpu_time_limit),
                cpu_time_limit,
            ),
            memory: self.memory.or(defaults.memory),
            max_retries: self.max_retries.or(defaults.max_retries),
            default_retry_delay: self.default_retry_delay.or(defaults.default_retry_delay),
            max_result: self.max_result.or(defaults.max_result),
            max_table_elements: self.max_table_elements.or(defaults.max_table_elements),
            max_arguments: self.max_arguments.or(defaults.max_arguments),
            max_log: self.max_log.or(defaults.max_log),
            max_handles: self.max_handles.or(defaults.max_handles),
            max_random: self.max_random.or(defaults.max_random),
            max_host_calls: self.max_host_calls.or(defaults.max_host_calls),
            max_children: self.max_children.or(defaults.max_children),
            max_descendants: self.max_descendants.or(defaults.max_descendants),
            max_depth: self.max_depth.or(defaults.max_depth),
            max_requests: self.max_requests.or(defaults.max_requests),
            max_disk: self.max_disk.or(defaults.max_disk),
            capabilities: self.capabilities.clone(),
        }
    }
}

/// Times as numbers of seconds.
mod seconds {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    /// A year: longer is a slip of the pen.
    const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_f64(time.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_any(Seconds).map(Some)
    }

    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds")
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
            let seconds = u64::try_from(seconds).map_err(|_| out_of_range(seconds))?;
            self.visit_u64(seconds)
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
            let time = Duration::from_secs(seconds);
            if time > MAX {
                Err(out_of_range(seconds))
            } else {
                Ok(time)
            }
        }

        fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
            let time = Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|time| *time <= MAX);
            // Rounded: what a float holds of 0.959 may be a little less.
            let milliseconds = time
                .map(|time| time + Duration::from_micros(500))
                .and_then(|time| u64::try_from(time.as_millis()).ok());
            milliseconds
                .map(Duration::from_millis)
                .ok_or_else(|| out_of_range(seconds))
        }
    }

    fn out_of_range<E: Error>(seconds: impl fmt::Display) -> E {
        E::custom(format_args!(
            "{seconds} is not a time in seconds: from 0 to {}",
            MAX.as_secs()
        ))
    }
}

/// Sizes as numbers of bytes, or texts with a unit.
mod bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    /// A tebibyte: larger is a slip of the pen.
    const MAX: u64 = 1 << 40;
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_u64(*bytes),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        deserializer.deserialize_any(Bytes).map(Some)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes, or a text such as \"64MiB\"")
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            let bytes = u64::try_from(bytes).map_err(|_| out_of_range(bytes))?;
            self.visit_u64(bytes)
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            if (1..=MAX).contains(&bytes) {
                Ok(bytes)
            } else {
                Err(out_of_range(bytes))
            }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            let (number, unit) = UNITS
                .iter()
                .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
                .unwrap_or((text, 1));
            let number: u64 = number.trim().parse().map_err(|_| out_of_range(text))?;
            let bytes = number.checked_mul(unit).ok_or_else(|| out_of_range(text))?;
            if (1..=MAX).contains(&bytes) {
                Ok(bytes)
            } else {
                Err(out_of_range(text))
            }
        }
    }

    fn out_of_range<E: Error>(size: impl fmt::Display) -> E {
        E::custom(format_args!(
            "{size} is not a size: from 1 to 1024GiB, as a number of bytes or a whole number with KiB, MiB, GiB, kB, MB or GB"
        ))
    }
}
