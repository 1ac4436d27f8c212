//! What one call may use, and what is said when it wants more.

pub(crate) mod budget;
pub(crate) mod descriptors;
pub(crate) mod limiter;
pub(crate) mod meter;
pub(crate) mod off_the_executor;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use petiole_celery::Refusal;

/// What one call may use. Every field is required: a limit that is an option is one that is forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sum of the linear memories, in bytes.
    pub memory: usize,
    /// Sum of the elements of all tables; one table has 100,000 at most.
    pub table_elements: usize,
    /// Time on a CPU.
    pub cpu_time: Duration,
    /// Time on a CPU after which the guest is told; none for no soft limit.
    pub soft_cpu_time: Option<Duration>,
    /// Wall time of instantiate and call together.
    pub time: Duration,
    /// Wall time after which the guest is told; none for no soft limit.
    pub soft_time: Option<Duration>,
    /// The message's body, in bytes: seen to where messages are admitted, not by the sandbox.
    pub arguments: usize,
    /// The result's size as JSON, in bytes; also that of the signatures it sends, together.
    pub result: usize,
    /// What the task may write to its log, stdout and stderr, in bytes.
    pub log: usize,
    /// Component-model handles, and WASI resources (pollables, streams), each.
    pub handles: usize,
    /// What it may get of `wasi:random` in all, in bytes.
    pub random: u64,
    /// Calls of imported functions.
    pub host_calls: u64,
    /// How many signatures it may send, with those that are nested in them.
    pub children: usize,
    /// How many tasks may still come of its root.
    pub descendants: usize,
    /// How many levels of tasks that send others may still follow.
    pub depth: u32,
    /// Outbound HTTP requests and TCP connections.
    pub requests: u32,
    /// What it may write to its folders, in bytes.
    pub disk: u64,
}

/// One of the [`Limits`], and the guest's stack, which the whole worker has one limit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the field of `Limits` of that name")]
pub enum Limit {
    Memory,
    TableElements,
    CpuTime,
    Time,
    Arguments,
    Result,
    Log,
    Handles,
    Random,
    HostCalls,
    Children,
    Descendants,
    Depth,
    Requests,
    Disk,
    /// The guest's call stack.
    Stack,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Memory,
        Self::TableElements,
        Self::CpuTime,
        Self::Time,
        Self::Arguments,
        Self::Result,
        Self::Log,
        Self::Handles,
        Self::Random,
        Self::HostCalls,
        Self::Children,
        Self::Descendants,
        Self::Depth,
        Self::Requests,
        Self::Disk,
        Self::Stack,
    ];

    /// As in configuration and metrics: `cpu_time`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TableElements => "table_elements",
            Self::CpuTime => "cpu_time",
            Self::Time => "time",
            Self::Arguments => "arguments",
            Self::Result => "result",
            Self::Log => "log",
            Self::Handles => "handles",
            Self::Random => "random",
            Self::HostCalls => "host_calls",
            Self::Children => "children",
            Self::Descendants => "descendants",
            Self::Depth => "depth",
            Self::Requests => "requests",
            Self::Disk => "disk",
            Self::Stack => "stack",
        }
    }

    /// The class of the exception that the task fails with.
    pub fn exception(self) -> &'static str {
        match self {
            Self::Memory => "MemoryLimitExceeded",
            Self::TableElements => "TableLimitExceeded",
            Self::CpuTime => "CpuTimeLimitExceeded",
            Self::Time => "TimeLimitExceeded",
            Self::Arguments => Refusal::ARGUMENTS_TOO_LARGE,
            Self::Result => "ResultTooLarge",
            Self::Log => "LogLimitExceeded",
            Self::Handles => "HandleLimitExceeded",
            Self::Random => "RandomLimitExceeded",
            Self::HostCalls => "HostCallLimitExceeded",
            Self::Children => "ChildrenLimitExceeded",
            Self::Descendants => "DescendantsLimitExceeded",
            Self::Depth => "DepthLimitExceeded",
            Self::Requests => "RequestLimitExceeded",
            Self::Disk => "DiskLimitExceeded",
            Self::Stack => "StackOverflow",
        }
    }
}

/// A limit that a guest ran into: an error inside of wasmtime, a FAILURE outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) struct LimitExceeded {
    pub(crate) limit: Limit,
    /// In the limit's own unit; times are in microseconds.
    pub(crate) allowed: u64,
    /// The same: what the guest would have had with what it asked for.
    pub(crate) asked: u64,
}

impl LimitExceeded {
    pub(crate) fn new(limit: Limit, allowed: usize, asked: usize) -> Self {
        Self {
            limit,
            allowed: wide(allowed),
            asked: wide(asked),
        }
    }

    pub(crate) fn time(limit: Limit, allowed: Duration, used: Duration) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            limit,
            allowed: micros(allowed),
            asked: micros(used),
        }
    }
}

/// No machine has a wider usize.
pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Display for LimitExceeded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            allowed,
            asked,
        } = *self;
        match limit {
            Limit::Memory => amount(f, "memory", Bytes(allowed), "asked for", Bytes(asked)),
            Limit::TableElements => amount(
                f,
                "table",
                format_args!("{allowed} elements"),
                "asked for",
                asked,
            ),
            Limit::CpuTime => amount(f, "CPU time", Seconds(allowed), "used", Seconds(asked)),
            Limit::Time => amount(f, "time", Seconds(allowed), "took", Seconds(asked)),
            Limit::Arguments => write!(
                f,
                "{}",
                Refusal::ArgumentsTooLarge {
                    size: usize::try_from(asked).unwrap_or(usize::MAX),
                    limit: usize::try_from(allowed).unwrap_or(usize::MAX),
                }
            ),
            Limit::Result => amount(f, "result", Bytes(allowed), "sent", Bytes(asked)),
            Limit::Log => amount(f, "log", Bytes(allowed), "wrote", Bytes(asked)),
            Limit::Handles => amount(f, "handle", allowed, "asked for", asked),
            Limit::Random => amount(f, "random", Bytes(allowed), "asked for", Bytes(asked)),
            Limit::HostCalls => amount(f, "host call", allowed, "made", asked),
            Limit::Children => amount(f, "children", allowed, "sent", asked),
            Limit::Descendants => write!(
                f,
                "descendants limit exceeded: {allowed} may still come of the root task, the task sent {asked}"
            ),
            Limit::Depth => write!(
                f,
                "depth limit exceeded: {allowed} more levels of tasks may follow, the task sent {asked}"
            ),
            Limit::Requests => amount(f, "request", allowed, "made", asked),
            Limit::Disk => amount(f, "disk", Bytes(allowed), "wrote", Bytes(asked)),
            Limit::Stack => f.write_str("call stack exhausted"),
        }
    }
}

fn amount(
    f: &mut Formatter<'_>,
    name: &str,
    allowed: impl Display,
    did: &str,
    asked: impl Display,
) -> fmt::Result {
    write!(
        f,
        "{name} limit of {allowed} exceeded: the task {did} {asked}"
    )
}

/// In the largest unit that divides it.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        match self.0 {
            0 => f.write_str("0 bytes"),
            bytes if bytes.is_multiple_of(MIB) => write!(f, "{} MiB", bytes / MIB),
            bytes if bytes.is_multiple_of(KIB) => write!(f, "{} KiB", bytes / KIB),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Of microseconds, without zeros at the end.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000;
        let fraction = format!("{:06}", self.0 % SECOND);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{} s", self.0 / SECOND),
            fraction => write!(f, "{}.{fraction} s", self.0 / SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_limit_and_value_in_units() {
        const MIB: usize = 1 << 20;
        let exceeded = LimitExceeded::new;
        let ms = Duration::from_millis;
        for (exceeded, text) in [
            (
                exceeded(Limit::Memory, 64 * MIB, 96 * MIB),
                "memory limit of 64 MiB exceeded: the task asked for 96 MiB",
            ),
            (
                exceeded(Limit::TableElements, 400_000, 400_001),
                "table limit of 400000 elements exceeded: the task asked for 400001",
            ),
            (
                LimitExceeded::time(Limit::CpuTime, ms(2_000), ms(2_010)),
                "CPU time limit of 2 s exceeded: the task used 2.01 s",
            ),
            (
                LimitExceeded::time(Limit::Time, ms(50), ms(51)),
                "time limit of 0.05 s exceeded: the task took 0.051 s",
            ),
            (
                exceeded(Limit::Log, 1024, 1025),
                "log limit of 1 KiB exceeded: the task wrote 1025 bytes",
            ),
            (
                exceeded(Limit::Random, 0, 8),
                "random limit of 0 bytes exceeded: the task asked for 8 bytes",
            ),
            (
                exceeded(Limit::HostCalls, 10, 11),
                "host call limit of 10 exceeded: the task made 11",
            ),
        ] {
            assert_eq!(exceeded.to_string(), text);
        }
    }

    #[test]
    fn names_and_exceptions_are_distinct() {
        let names: std::collections::HashSet<_> = Limit::ALL.map(Limit::name).into();
        let exceptions: std::collections::HashSet<_> = Limit::ALL.map(Limit::exception).into();
        assert_eq!((names.len(), exceptions.len()), (16, 16));
    }
}
