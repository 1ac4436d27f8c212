//! The environment as a layer.

use std::ffi::OsString;

use super::error::ConfigError;
use super::key::Key;
use super::layer::Layer;

/// Reads the layer; `var` looks a variable up. An empty one counts as one that is not set.
pub(super) fn read(
    keys: &[Key],
    var: impl Fn(&str) -> Option<OsString>,
) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for key in keys {
        let set = |name| Some((name, var(name).filter(|value| !value.is_empty())?));
        let mut variables = key.variables.iter();
        let Some((name, value)) = variables.find_map(|name| set(name.as_str())) else {
            continue;
        };
        let invalid = |reason| ConfigError::Value {
            origin: format!("environment variable {name}"),
            reason,
        };
        let text = value
            .into_string()
            .map_err(|_| invalid("not UTF-8".to_owned()))?;
        let value = key.from_text(&text).map_err(invalid)?;
        layer.set(&key.path, value, format!("env {name}"));
    }
    Ok(layer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::keys;
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Layer, ConfigError> {
        read(&keys(), |name| {
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
        assert_eq!(layer.text("broker"), Some("amqp://p"));
        let layer = of(&[
            ("CELERY_BROKER_URL", "amqp://c"),
            ("PETIOLE_BROKER_URL", ""),
        ])
        .unwrap();
        assert_eq!(layer.text("broker"), Some("amqp://c"));
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

    #[test]
    fn no_variable_is_two_settings() {
        let mut names: Vec<_> = keys().into_iter().flat_map(|key| key.variables).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
