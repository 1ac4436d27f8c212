//! The environment as a layer. An empty variable counts as one that is not set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;

use petiole_celery::Destination;
use petiole_permits::url::redact;

use super::ConfigError;
use super::file::{InOrder, Written, WrittenCompile, WrittenRetry};
use super::http::WrittenHttp;
use super::keys::{self, Key};
use super::layer::{Layer, Origin};
use super::limits::{WrittenLimits, WrittenMaxLimits};
use super::wants::FromText;

/// Reads the layer; `var` looks a variable up.
pub(super) fn read(var: impl Fn(&str) -> Option<OsString>) -> Result<Layer, ConfigError> {
    let mut env = Env {
        var: &var,
        used: BTreeMap::new(),
    };
    let written = Written {
        broker: env.get(&keys::BROKER)?,
        queues: env.list(&keys::QUEUES)?,
        default_queue: env.get(&keys::DEFAULT_QUEUE)?,
        quarantine_queue: env.get(&keys::QUARANTINE_QUEUE)?,
        routes: env.routes()?,
        hostname: env.get(&keys::HOSTNAME)?,
        concurrency: env.get(&keys::CONCURRENCY)?,
        prefetch_multiplier: env.get(&keys::PREFETCH_MULTIPLIER)?,
        delivery_limit: env.get(&keys::DELIVERY_LIMIT)?,
        soft_shutdown_timeout: env.get(&keys::SOFT_SHUTDOWN_TIMEOUT)?,
        memory_budget: env.get(&keys::MEMORY_BUDGET)?,
        results: env.get(&keys::RESULTS)?,
        result_expires: env.get(&keys::RESULT_EXPIRES)?,
        result_extended: env.get(&keys::RESULT_EXTENDED)?,
        store: env.get(&keys::STORE)?,
        cache: env.get(&keys::CACHE)?,
        api: env.get(&keys::API)?,
        loglevel: env.get(&keys::LOGLEVEL)?,
        log_format: env.get(&keys::LOG_FORMAT)?,
        http: WrittenHttp {
            addr: env.get(&keys::HTTP_ADDR)?,
            token: env.get(&keys::HTTP_TOKEN)?,
            ..WrittenHttp::default()
        },
        keyvalue: env.get(&keys::KEYVALUE)?,
        limits: WrittenLimits::of_env(&mut env)?,
        max_limits: WrittenMaxLimits::of_env(&mut env)?,
        retry: WrittenRetry {
            delay: env.get(&keys::RETRY_DELAY)?,
            max: env.get(&keys::RETRY_MAX)?,
        },
        compile: WrittenCompile {
            time: env.get(&keys::COMPILE_TIME)?,
            memory: env.get(&keys::COMPILE_MEMORY)?,
        },
        // Tables are the file's.
        ..Written::default()
    }
    .with_http_of_env(&mut env)?;
    Ok(Layer {
        origin: Origin::Env(env.used),
        written,
    })
}

/// The environment, and what was found in it.
pub(super) struct Env<'a> {
    var: &'a dyn Fn(&str) -> Option<OsString>,
    /// Setting to the variable that named it.
    used: BTreeMap<&'static str, &'static str>,
}

impl Env<'_> {
    fn text(&mut self, key: &Key) -> Result<Option<(&'static str, String)>, ConfigError> {
        for name in key.env {
            let Some(value) = (self.var)(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let text = value
                .into_string()
                .map_err(|_| invalid(name, "not UTF-8"))?;
            self.used.insert(key.name, name);
            return Ok(Some((name, text)));
        }
        Ok(None)
    }

    pub(super) fn get<T: FromText>(&mut self, key: &Key) -> Result<Option<T>, ConfigError> {
        self.text(key)?
            .map(|(name, text)| T::from_text(&text).map_err(|reason| invalid(name, reason)))
            .transpose()
    }

    pub(super) fn list(&mut self, key: &Key) -> Result<Option<Vec<String>>, ConfigError> {
        Ok(self.text(key)?.map(|(_, text)| split(&text)))
    }

    fn routes(&mut self) -> Result<InOrder<Destination>, ConfigError> {
        let Some((name, text)) = self.text(&keys::ROUTES)? else {
            return Ok(InOrder::default());
        };
        split(&text)
            .iter()
            .map(|rule| route(rule))
            .collect::<Result<_, _>>()
            .map(InOrder)
            .map_err(|reason| invalid(name, reason))
    }
}

/// The parts between commas.
fn split(text: &str) -> Vec<String> {
    text.split(',')
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// Reads `GLOB=QUEUE`.
pub(super) fn route(rule: &str) -> Result<(String, Destination), String> {
    match rule.split_once('=') {
        Some((glob, queue)) if !glob.trim().is_empty() && !queue.trim().is_empty() => {
            Ok((glob.trim().to_owned(), Destination::queue(queue.trim())))
        }
        _ => Err(format!(
            "route {:?} is not GLOB=QUEUE, for example 'shop.*=python'",
            redact(rule)
        )),
    }
}

fn invalid(name: &str, reason: impl Display) -> ConfigError {
    ConfigError::Value {
        origin: format!("environment variable {name}"),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Layer, ConfigError> {
        read(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn petioles_variable_wins_over_celerys() {
        let layer = of(&[
            ("CELERY_BROKER_URL", "amqp://c"),
            ("PETIOLE_BROKER_URL", "amqp://p"),
        ])
        .unwrap();
        assert_eq!(layer.written.broker.as_deref(), Some("amqp://p"));
        let layer = of(&[
            ("CELERY_BROKER_URL", "amqp://c"),
            ("PETIOLE_BROKER_URL", ""),
        ])
        .unwrap();
        assert_eq!(layer.written.broker.as_deref(), Some("amqp://c"));
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        for (name, value) in [
            ("PETIOLE_CONCURRENCY", "0"),
            ("PETIOLE_HTTP", "8000"),
            ("PETIOLE_ROUTES", "shop.*"),
            ("PETIOLE_HOST_CALLS_LIMIT", "-1"),
            ("PETIOLE_MAX_MEMORY_LIMIT", "much"),
        ] {
            let error = of(&[(name, value)]).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
