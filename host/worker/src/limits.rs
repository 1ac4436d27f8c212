//! What a task may use, by what its manifest asks for: pure.

use std::time::Duration;

use petiole_modules::TaskSettings;
use petiole_permits::Size;
use petiole_runtime::{Limit, Limits};

use crate::{SettingsError, TaskDefaults};

impl TaskDefaults {
    /// What the task of this name may use: what its manifest asks for, else the worker's own limits.
    ///
    /// # Errors
    /// When it asks for more than a manifest may.
    pub fn limits(&self, task: &str, asked: &TaskSettings) -> Result<Limits, SettingsError> {
        let Limits {
            memory,
            table_elements,
            cpu_time,
            soft_cpu_time,
            time,
            soft_time,
            arguments,
            result,
            log,
            handles,
            random,
            host_calls,
            children,
            descendants,
            depth,
            requests,
            disk,
        } = self.limits;
        let most = &self.most;
        let ask = Ask { task };
        let size = |key, limit, asked: Option<u64>, default: usize, most: usize| {
            let asked = asked.map(saturating);
            ask.within(key, limit, asked, default, most, |bytes| {
                bytes_text(wide(bytes))
            })
        };
        let count = |key, limit, asked: Option<u64>, default: usize, most: usize| {
            let asked = asked.map(saturating);
            ask.within(key, limit, asked, default, most, |count| count.to_string())
        };
        let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
        let time = ask.within(
            "time_limit",
            Limit::Time,
            asked.time_limit,
            time,
            most.time,
            seconds,
        )?;
        let cpu_time = ask.within(
            "cpu_time_limit",
            Limit::CpuTime,
            asked.cpu_time_limit,
            cpu_time,
            most.cpu_time,
            seconds,
        )?;
        Ok(Limits {
            memory: size("memory", Limit::Memory, asked.memory, memory, most.memory)?,
            table_elements: count(
                "max_table_elements",
                Limit::TableElements,
                asked.max_table_elements,
                table_elements,
                most.table_elements,
            )?,
            time,
            soft_time: below(asked.soft_time_limit.or(soft_time), time),
            cpu_time,
            soft_cpu_time: below(asked.soft_cpu_time_limit.or(soft_cpu_time), cpu_time),
            arguments: size(
                "max_arguments",
                Limit::Arguments,
                asked.max_arguments,
                arguments,
                most.arguments,
            )?,
            result: size(
                "max_result",
                Limit::Result,
                asked.max_result,
                result,
                most.result,
            )?,
            log: size("max_log", Limit::Log, asked.max_log, log, most.log)?,
            handles: count(
                "max_handles",
                Limit::Handles,
                asked.max_handles,
                handles,
                most.handles,
            )?,
            random: ask.within(
                "max_random",
                Limit::Random,
                asked.max_random,
                random,
                most.random,
                bytes_text,
            )?,
            host_calls: ask.within(
                "max_host_calls",
                Limit::HostCalls,
                asked.max_host_calls,
                host_calls,
                most.host_calls,
                |count| count.to_string(),
            )?,
            children: count(
                "max_children",
                Limit::Children,
                asked.max_children,
                children,
                most.children,
            )?,
            descendants: count(
                "max_descendants",
                Limit::Descendants,
                asked.max_descendants,
                descendants,
                most.descendants,
            )?,
            depth: ask.within(
                "max_depth",
                Limit::Depth,
                asked.max_depth,
                depth,
                most.depth,
                |count| count.to_string(),
            )?,
            requests: ask.within(
                "max_requests",
                Limit::Requests,
                asked.max_requests,
                requests,
                most.requests,
                |count| count.to_string(),
            )?,
            disk: ask.within(
                "max_disk",
                Limit::Disk,
                asked.max_disk,
                disk,
                most.disk,
                bytes_text,
            )?,
        })
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Ask<'a> {
    task: &'a str,
}

impl Ask<'_> {
    fn within<T: Copy + PartialOrd>(
        self,
        key: &'static str,
        limit: Limit,
        asked: Option<T>,
        default: T,
        most: T,
        text: impl Fn(T) -> String,
    ) -> Result<T, SettingsError> {
        match asked {
            None => Ok(default),
            Some(asked) if asked <= most => Ok(asked),
            Some(asked) => Err(SettingsError::Limit {
                task: self.task.to_owned(),
                key,
                asked: text(asked),
                most: text(most),
                limit,
            }),
        }
    }
}

/// A soft limit that is not below the hard one would never be reached.
pub(crate) fn below(soft: Option<Duration>, hard: Duration) -> Option<Duration> {
    soft.filter(|soft| *soft < hard)
}

fn saturating(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn bytes_text(bytes: u64) -> String {
    Size::new(bytes).map_or_else(|| "0B".to_owned(), |size| size.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests {
    use petiole_modules::Manifest;

    use super::*;

    pub(crate) fn limits() -> Limits {
        Limits {
            memory: 256 << 20,
            table_elements: 400_000,
            cpu_time: Duration::from_secs(300),
            soft_cpu_time: None,
            time: Duration::from_secs(300),
            soft_time: Some(Duration::from_secs(250)),
            arguments: 16 << 20,
            result: 8 << 20,
            log: 1 << 20,
            handles: 10_000,
            random: 64 << 20,
            host_calls: 100_000_000,
            children: 1000,
            descendants: 10_000,
            depth: 100,
            requests: 100,
            disk: 64 << 20,
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

    /// All fields, in a form that can be compared.
    fn text(limits: Limits) -> String {
        format!("{limits:?}")
    }

    #[test]
    fn a_manifest_lowers_and_raises() {
        assert_eq!(text(asked("").unwrap()), text(limits()));
        let lowered = asked("max_host_calls = 7\nmax_children = 0\nmemory = '1MiB'").unwrap();
        let expected = Limits {
            host_calls: 7,
            children: 0,
            memory: 1 << 20,
            ..limits()
        };
        assert_eq!(text(lowered), text(expected));
        let raised = asked("time_limit = 600\nmax_disk = '4GiB'").unwrap();
        let expected = Limits {
            time: Duration::from_secs(600),
            disk: 4 << 30,
            ..limits()
        };
        assert_eq!(text(raised), text(expected));
    }

    #[test]
    fn every_limit_has_a_ceiling_of_its_own() {
        let table = [
            (
                "memory = '1025MiB'",
                "memory = 1025MiB",
                "1GiB",
                Limit::Memory,
            ),
            (
                "max_table_elements = 400001",
                "max_table_elements = 400001",
                "400000",
                Limit::TableElements,
            ),
            (
                "cpu_time_limit = 300.5",
                "cpu_time_limit = 300.5 s",
                "300 s",
                Limit::CpuTime,
            ),
            (
                "time_limit = 601",
                "time_limit = 601 s",
                "600 s",
                Limit::Time,
            ),
            (
                "max_arguments = '17MiB'",
                "max_arguments = 17MiB",
                "16MiB",
                Limit::Arguments,
            ),
            (
                "max_result = '9MiB'",
                "max_result = 9MiB",
                "8MiB",
                Limit::Result,
            ),
            ("max_log = '2MiB'", "max_log = 2MiB", "1MiB", Limit::Log),
            (
                "max_handles = 10001",
                "max_handles = 10001",
                "10000",
                Limit::Handles,
            ),
            (
                "max_random = '65MiB'",
                "max_random = 65MiB",
                "64MiB",
                Limit::Random,
            ),
            (
                "max_host_calls = 100000001",
                "max_host_calls = 100000001",
                "100000000",
                Limit::HostCalls,
            ),
            (
                "max_children = 1001",
                "max_children = 1001",
                "1000",
                Limit::Children,
            ),
            (
                "max_descendants = 10001",
                "max_descendants = 10001",
                "10000",
                Limit::Descendants,
            ),
            ("max_depth = 101", "max_depth = 101", "100", Limit::Depth),
            (
                "max_requests = 101",
                "max_requests = 101",
                "100",
                Limit::Requests,
            ),
            ("max_disk = '5GiB'", "max_disk = 5GiB", "4GiB", Limit::Disk),
        ];
        for (line, asks, most, limit) in table {
            let Err(error) = asked(line) else {
                panic!("{line}");
            };
            let expected = format!(
                "task my_app.tasks.run_task: {asks} is more than the {most} that this worker gives: \
                 ask for less, or raise max_limits.{} in its configuration",
                limit.name()
            );
            assert_eq!(error.to_string(), expected);
        }
        // The stack's limit is the worker's alone.
        assert_eq!(table.len() + 1, Limit::ALL.len());
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
