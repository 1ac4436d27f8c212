//! The limits of a task, each declared once: everything else here follows from the rows at the end.

use std::fmt::Display;

use petiole_permits::{Amount, Amounts, Limits, Size};
use serde::Deserialize;
use toml::Value;

use super::ConfigError;
use super::env::Env;
use super::keys::Key;
use super::layer::{Layers, Setting};
use super::show::{Row, maybe, row};
use super::units::{Count, Seconds};

macro_rules! limits {
    (
        hard {
            $($name:ident: $unit:ty = $default:expr, at most $most:expr, $variable:literal $($flag:literal)?;)*
        }
        soft { $($soft:ident: $soft_variable:literal $soft_flag:literal;)* }
    ) => {
        /// `[limits]`: what a task may use where its manifest says nothing.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct WrittenLimits {
            $(pub $name: Option<$unit>,)*
            $(pub $soft: Option<Seconds>,)*
        }

        /// `[max_limits]`: the most that a manifest may ask for.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct WrittenMaxLimits {
            $(pub $name: Option<$unit>,)*
        }

        /// `[limits]`, resolved.
        #[derive(Debug, Clone)]
        pub(crate) struct LimitSettings {
            $(pub $name: Setting<$unit>,)*
            $(pub $soft: Setting<Option<Seconds>>,)*
        }

        /// `[max_limits]`, resolved.
        #[derive(Debug, Clone)]
        pub(crate) struct MaxLimitSettings {
            $(pub $name: Setting<$unit>,)*
        }

        /// The settings' spellings; for `[max_limits]` in `most`.
        #[allow(non_upper_case_globals)]
        mod key {
            use super::Key;
            $(pub(super) const $name: Key = Key {
                name: concat!("limits.", stringify!($name)),
                env: &[concat!("PETIOLE_", $variable)],
                flag: [$($flag)?].first().copied(),
            };)*
            $(pub(super) const $soft: Key = Key {
                name: concat!("limits.", stringify!($soft)),
                env: &[concat!("PETIOLE_", $soft_variable)],
                flag: Some($soft_flag),
            };)*
            pub(super) mod most {
                use super::Key;
                $(pub(in super::super) const $name: Key = Key {
                    name: concat!("max_limits.", stringify!($name)),
                    env: &[concat!("PETIOLE_MAX_", $variable)],
                    flag: None,
                };)*
            }
        }

        impl WrittenLimits {
            pub(super) fn of_env(env: &mut Env) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($name: env.get(&key::$name)?,)*
                    $($soft: env.get(&key::$soft)?,)*
                })
            }
        }

        impl WrittenMaxLimits {
            pub(super) fn of_env(env: &mut Env) -> Result<Self, ConfigError> {
                Ok(Self { $($name: env.get(&key::most::$name)?,)* })
            }
        }

        impl LimitSettings {
            /// A default gives way to a lower maximum.
            pub(super) fn resolve(layers: &Layers, most: &MaxLimitSettings) -> Self {
                Self {
                    $($name: layers
                        .given(&key::$name, |w| w.limits.$name)
                        .unwrap_or_else(|| default_below($default, &most.$name)),)*
                    $($soft: layers.maybe(&key::$soft, |w| w.limits.$soft),)*
                }
            }

            /// No limit is above its maximum.
            pub(super) fn check(&self, most: &MaxLimitSettings) -> Result<(), ConfigError> {
                $(check(&key::$name, &self.$name, &key::most::$name, &most.$name)?;)*
                Ok(())
            }

            pub(super) fn rows(&self) -> Vec<Row> {
                vec![
                    $(row(&key::$name, &self.$name, |limit| value((*limit).into())),)*
                    $(maybe(&key::$soft, &self.$soft, |limit| value((*limit).into())),)*
                ]
            }

            /// As the runtime takes them.
            pub(crate) fn limits(&self) -> Result<Limits, ConfigError> {
                let mut amounts = Amounts::new();
                $(amounts.insert(stringify!($name), self.$name.value.into());)*
                $(amounts.extend(self.$soft.value.map(|time| (stringify!($soft), time.into())));)*
                let limits = Limits::of(&amounts);
                $(countable(&key::$name, &self.$name, &limits)?;)*
                Ok(limits)
            }
        }

        impl MaxLimitSettings {
            pub(super) fn resolve(layers: &Layers) -> Self {
                Self { $($name: layers.or(&key::most::$name, |w| w.max_limits.$name, $most),)* }
            }

            pub(super) fn rows(&self) -> Vec<Row> {
                vec![$(row(&key::most::$name, &self.$name, |limit| value((*limit).into())),)*]
            }

            /// As the runtime takes them; soft limits have no maximum of their own.
            pub(crate) fn limits(&self) -> Result<Limits, ConfigError> {
                let mut amounts = Amounts::new();
                $(amounts.insert(stringify!($name), self.$name.value.into());)*
                let limits = Limits::of(&amounts);
                $(countable(&key::most::$name, &self.$name, &limits)?;)*
                Ok(limits)
            }
        }
    };
}

limits! {
    hard {
        memory: Size = Size::new(256 << 20), at most Size::new(1 << 30), "MEMORY_LIMIT" "--memory-limit";
        table_elements: Count = Count(400_000), at most Count(800_000), "TABLE_ELEMENTS_LIMIT";
        cpu_time: Seconds = Seconds::whole(300), at most Seconds::whole(86_400), "CPU_TIME_LIMIT" "--cpu-time-limit";
        time: Seconds = Seconds::whole(300), at most Seconds::whole(86_400), "TIME_LIMIT" "--time-limit";
        arguments: Size = Size::new(16 << 20), at most Size::new(16 << 20), "ARGUMENTS_LIMIT";
        result: Size = Size::new(8 << 20), at most Size::new(64 << 20), "RESULT_LIMIT";
        log: Size = Size::new(1 << 20), at most Size::new(64 << 20), "LOG_LIMIT";
        handles: Count = Count(10_000), at most Count(100_000), "HANDLES_LIMIT";
        random: Size = Size::new(64 << 20), at most Size::new(1 << 30), "RANDOM_LIMIT";
        host_calls: Count = Count(100_000_000), at most Count(1_000_000_000_000), "HOST_CALLS_LIMIT";
        children: Count = Count(1_000), at most Count(100_000), "CHILDREN_LIMIT";
        descendants: Count = Count(10_000), at most Count(1_000_000), "DESCENDANTS_LIMIT";
        depth: Count = Count(100), at most Count(1_000), "DEPTH_LIMIT";
        requests: Count = Count(100), at most Count(100_000), "REQUESTS_LIMIT";
        disk: Size = Size::new(64 << 20), at most Size::new(4 << 30), "DISK_LIMIT";
    }
    soft {
        soft_cpu_time: "SOFT_CPU_TIME_LIMIT" "--soft-cpu-time-limit";
        soft_time: "SOFT_TIME_LIMIT" "--soft-time-limit";
    }
}

fn default_below<T: Copy + PartialOrd>(default: T, most: &Setting<T>) -> Setting<T> {
    if default > most.value {
        most.clone()
    } else {
        Setting::default(default)
    }
}

fn check<T: PartialOrd + Display>(
    key: &Key,
    limit: &Setting<T>,
    most_key: &Key,
    most: &Setting<T>,
) -> Result<(), ConfigError> {
    if limit.value > most.value {
        return Err(limit.wrong(format!(
            "{} {} is more than {} {}: raise that one too",
            key.name, limit.value, most_key.name, most.value
        )));
    }
    Ok(())
}

/// A limit that the worker's own number for it can hold.
fn countable<T: Copy + Display + Into<Amount>>(
    key: &Key,
    limit: &Setting<T>,
    limits: &Limits,
) -> Result<(), ConfigError> {
    let name = key.name.split_once('.').map_or(key.name, |(_, name)| name);
    if limits.amounts().get(name) == Some(&limit.value.into()) {
        return Ok(());
    }
    Err(limit.wrong(format!(
        "{} {} is more than a worker can count",
        key.name, limit.value
    )))
}

/// As it is written.
fn value(amount: Amount) -> Value {
    match amount {
        Amount::Size(size) => size.to_string().into(),
        // TOML has no larger integers, so that none is written either.
        Amount::Count(count) => i64::try_from(count).unwrap_or(i64::MAX).into(),
        Amount::Time(time) => time.as_secs_f64().into(),
    }
}
