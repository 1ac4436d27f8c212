//! The settings of a task, as a manifest has them.

use std::fmt;
use std::time::Duration;

use petiole_permits::{
    Amount, Amounts, Capabilities, LIMITS, LimitSpec, Size, Unit, drop_unreachable,
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// The longest time: a year; longer is a slip of the pen.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The largest size: a tebibyte; larger is a slip of the pen.
const MAX_SIZE: Size = Size::new(1 << 40);

/// A manifest's settings of a task. Where it says nothing, the worker's own settings hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// The task's full name, in place of module name + `.` + function.
    pub name: Option<String>,
    /// The limits it asks for. Times are written in seconds, to the millisecond.
    pub limits: Amounts,
    /// The most times that a task that asks for it is run again.
    pub max_retries: Option<u32>,
    /// The delay of a retry that names no time.
    pub default_retry_delay: Option<Duration>,
    /// The task's capabilities beyond its sandbox, in place of the module's [`Manifest::capabilities`].
    ///
    /// [`Manifest::capabilities`]: crate::Manifest::capabilities
    pub capabilities: Option<Capabilities>,
}

impl TaskSettings {
    /// These settings, and where they say nothing, the others'. A soft time limit gives way to a hard
    /// one that is not longer.
    pub(crate) fn or(&self, defaults: &Self) -> Self {
        let mut limits = defaults.limits.clone();
        limits.extend(&self.limits);
        drop_unreachable(&mut limits);
        Self {
            name: self.name.clone(),
            limits,
            max_retries: self.max_retries.or(defaults.max_retries),
            default_retry_delay: self.default_retry_delay.or(defaults.default_retry_delay),
            capabilities: self.capabilities.clone(),
        }
    }
}

/// A key of the settings.
enum Key {
    Name,
    MaxRetries,
    DefaultRetryDelay,
    Capabilities,
    Limit(&'static LimitSpec),
}

const NAME: &str = "name";
const MAX_RETRIES: &str = "max_retries";
const DEFAULT_RETRY_DELAY: &str = "default_retry_delay";
const CAPABILITIES: &str = "capabilities";

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match key.as_str() {
            NAME => return Ok(Self::Name),
            MAX_RETRIES => return Ok(Self::MaxRetries),
            DEFAULT_RETRY_DELAY => return Ok(Self::DefaultRetryDelay),
            CAPABILITIES => return Ok(Self::Capabilities),
            _ => {}
        }
        let limit = LIMITS.iter().find(|limit| limit.manifest == key);
        limit.map(Self::Limit).ok_or_else(|| {
            let mut keys = vec![NAME, MAX_RETRIES, DEFAULT_RETRY_DELAY, CAPABILITIES];
            keys.extend(LIMITS.iter().map(|limit| limit.manifest));
            let keys = keys.join("`, `");
            D::Error::custom(format_args!(
                "unknown field `{key}`, expected one of `{keys}`"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for TaskSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = TaskSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TaskSettings, A::Error> {
        let mut settings = TaskSettings::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Name => settings.name = Some(map.next_value()?),
                Key::MaxRetries => settings.max_retries = Some(map.next_value()?),
                Key::DefaultRetryDelay => {
                    settings.default_retry_delay = Some(map.next_value_seed(Seconds)?);
                }
                Key::Capabilities => settings.capabilities = Some(map.next_value()?),
                Key::Limit(limit) => {
                    let amount = map.next_value_seed(Asked(limit.unit))?;
                    settings.limits.insert(limit.name, amount);
                }
            }
        }
        Ok(settings)
    }
}

impl Serialize for TaskSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            name,
            limits,
            max_retries,
            default_retry_delay,
            capabilities,
        } = self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(name) = name {
            map.serialize_entry(NAME, name)?;
        }
        for limit in LIMITS {
            if let Some(amount) = limits.get(limit.name) {
                map.serialize_entry(limit.manifest, amount)?;
            }
        }
        if let Some(max_retries) = max_retries {
            map.serialize_entry(MAX_RETRIES, max_retries)?;
        }
        if let Some(delay) = default_retry_delay {
            map.serialize_entry(DEFAULT_RETRY_DELAY, &Amount::Time(*delay))?;
        }
        if let Some(capabilities) = capabilities {
            map.serialize_entry(CAPABILITIES, capabilities)?;
        }
        map.end()
    }
}

/// An amount as a manifest writes it.
struct Asked(Unit);

impl<'de> DeserializeSeed<'de> for Asked {
    type Value = Amount;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Amount, D::Error> {
        match self.0 {
            Unit::Count => u64::deserialize(deserializer).map(Amount::Count),
            Unit::Time => Seconds.deserialize(deserializer).map(Amount::Time),
            Unit::Size => match Size::deserialize(deserializer)? {
                size if size.bytes() == 0 || size > MAX_SIZE => Err(D::Error::custom(
                    format_args!("{size} is not a size: from 1B to 1024GiB"),
                )),
                size => Ok(Amount::Size(size)),
            },
        }
    }
}

/// A time as a number of seconds.
struct Seconds;

impl<'de> DeserializeSeed<'de> for Seconds {
    type Value = Duration;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(self)
    }
}

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
        if time > MAX_TIME {
            Err(out_of_range(seconds))
        } else {
            Ok(time)
        }
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        let time = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| *time <= MAX_TIME);
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
        MAX_TIME.as_secs()
    ))
}
