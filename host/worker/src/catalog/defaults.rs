//! Limits and retries of a task, by what its manifest asks for: pure.

use std::time::Duration;

use petiole_celery::RetrySettings;
use petiole_modules::TaskSettings;
use petiole_permits::{LIMITS, Limits, drop_unreachable};

use crate::catalog::settings_error::SettingsError;

/// Limits and retries of a task whose manifest says nothing, and the most that a manifest may ask for.
#[derive(Debug, Clone, Copy)]
pub struct TaskDefaults {
    /// Its limits.
    pub limits: Limits,
    /// The most that a manifest may raise each of them to; its soft limits are not looked at.
    pub most: Limits,
    /// Celery's `max_retries`.
    pub max_retries: u32,
    /// Celery's `default_retry_delay`.
    pub default_retry_delay: Duration,
}

impl TaskDefaults {
    /// The limits of a task: those its manifest asks for, else the worker's.
    ///
    /// # Errors
    /// When it asks for more than a manifest may.
    pub fn limits(&self, task: &str, settings: &TaskSettings) -> Result<Limits, SettingsError> {
        let (mut limits, most) = (self.limits.amounts(), self.most.amounts());
        for spec in LIMITS {
            let Some(asked) = settings.limits.get(spec.name) else {
                continue;
            };
            if let Some(most) = most
                .get(spec.name)
                .filter(|most| !spec.is_soft && asked > most)
            {
                return Err(SettingsError::Limit {
                    task: task.to_owned(),
                    key: spec.manifest,
                    asked: *asked,
                    most: *most,
                    limit: spec.limit,
                });
            }
            limits.insert(spec.name, *asked);
        }
        drop_unreachable(&mut limits);
        Ok(Limits::of(&limits))
    }

    /// The number and the times of a task's retries, by its manifest. A task that asks for more
    /// retries may have as many as it may have descendants: both are runs.
    ///
    /// # Errors
    /// When the manifest asks for more than that.
    pub(crate) fn retry(
        &self,
        task: &str,
        settings: &TaskSettings,
        limits: &Limits,
    ) -> Result<RetrySettings, SettingsError> {
        let descendants = u32::try_from(limits.descendants).unwrap_or(u32::MAX);
        if let Some(asked) = settings.max_retries.filter(|asked| *asked > descendants) {
            return Err(SettingsError::Retries {
                task: task.to_owned(),
                asked,
                most: descendants,
            });
        }
        let max_retries = settings.max_retries.unwrap_or(self.max_retries);
        Ok(RetrySettings {
            max_retries,
            most_retries: descendants.max(max_retries),
            default_retry_delay: settings
                .default_retry_delay
                .unwrap_or(self.default_retry_delay),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(crate) mod tests {
    use std::time::Duration;

    use petiole_modules::Manifest;
    use petiole_permits::{Amount, Size};

    use super::*;

    pub(crate) fn limits() -> Limits {
        Limits {
            soft_time: Some(Duration::from_secs(250)),
            ..Limits::DEFAULTS
        }
    }

    fn defaults() -> TaskDefaults {
        TaskDefaults {
            limits: limits(),
            most: Limits {
                memory: 1 << 30,
                time: Duration::from_secs(600),
                disk: 4 << 30,
                ..limits()
            },
            max_retries: 3,
            default_retry_delay: Duration::from_secs(180),
        }
    }

    /// By a manifest with this line.
    fn asked(line: &str) -> Result<Limits, SettingsError> {
        let manifest = Manifest::from_toml(&format!("[defaults]\n{line}")).unwrap();
        defaults().limits("my_app.tasks.run_task", &manifest.settings("run_task"))
    }

    #[test]
    fn a_manifest_lowers_and_raises() {
        assert_eq!(asked("").unwrap(), limits());
        let lowered = asked("max_host_calls = 7\nmax_children = 0\nmemory = '1MiB'").unwrap();
        let expected = Limits {
            host_calls: 7,
            children: 0,
            memory: 1 << 20,
            ..limits()
        };
        assert_eq!(lowered, expected);
        let raised = asked("time_limit = 600\nmax_disk = '4GiB'").unwrap();
        let expected = Limits {
            time: Duration::from_secs(600),
            disk: 4 << 30,
            ..limits()
        };
        assert_eq!(raised, expected);
    }

    #[test]
    fn every_limit_has_a_ceiling_of_its_own() {
        let refused = |line: &str| asked(line).unwrap_err().to_string();
        let most = defaults().most.amounts();
        for spec in LIMITS.iter().filter(|spec| !spec.is_soft) {
            let most = most[spec.name];
            let (asked, written) = match most {
                Amount::Size(size) => {
                    let more = Size::new(size.bytes() + (1 << 20));
                    (Amount::Size(more), format!("'{more}'"))
                }
                Amount::Count(count) => (Amount::Count(count + 1), (count + 1).to_string()),
                Amount::Time(time) => {
                    let more = time + Duration::from_millis(500);
                    (Amount::Time(more), more.as_secs_f64().to_string())
                }
            };
            let (name, key) = (spec.name, spec.manifest);
            let expected = format!(
                "task my_app.tasks.run_task: {key} = {asked} is more than the {most} that this worker gives: \
                 ask for less, or raise max_limits.{name} in its configuration"
            );
            assert_eq!(refused(&format!("{key} = {written}")), expected);
        }
        for (line, part) in [
            (
                "memory = '1025MiB'",
                "memory = 1025MiB is more than the 1GiB that",
            ),
            (
                "cpu_time_limit = 300.5",
                "cpu_time_limit = 300.5 s is more than the 300 s that",
            ),
            (
                "max_host_calls = 100000001",
                "= 100000001 is more than the 100000000 that",
            ),
            (
                "max_depth = 5000000000",
                "max_depth = 5000000000 is more than the 100 that",
            ),
        ] {
            assert!(refused(line).contains(part), "{}", refused(line));
        }
    }

    #[test]
    fn a_soft_limit_gives_way_to_a_hard_one() {
        let seconds = Duration::from_secs;
        let soft = |line: &str| asked(line).unwrap().soft_time;
        assert_eq!(soft("time_limit = 251"), Some(seconds(250)));
        assert_eq!(soft("time_limit = 250"), None);
        assert_eq!(soft("soft_time_limit = 20"), Some(seconds(20)));
        let cpu = asked("cpu_time_limit = 3\nsoft_cpu_time_limit = 2").unwrap();
        assert_eq!(cpu.soft_cpu_time, Some(seconds(2)));
    }
}
