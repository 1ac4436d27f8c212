//! The limits of a task: one table, a row for each.
//!
//! A row gives a limit's name, unit, type, default and ceiling, how a manifest and the command line spell it, its
//! soft counterpart, the exception of a task that exceeds it, and its message. Its other spellings follow from the
//! name: `limits.NAME` and `max_limits.NAME` in petiole.toml, `PETIOLE_NAME_LIMIT` and `PETIOLE_MAX_NAME_LIMIT` in
//! the environment.
//!
//! A macro makes of the rows a struct ([`Limits`], so that `limits.memory` is a number of the type that
//! the sandbox counts in), an enum ([`Limit`], to say which was exceeded), and a list ([`LIMITS`], for whatever treats
//! all alike: manifests, configuration, the HTTP API, the documentation).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::amount::Field;
use crate::{Amount, Unit};

/// Amounts by the names of [`LIMITS`]; unset ones are missing.
pub type Amounts = BTreeMap<&'static str, Amount>;

/// A limit that can be set; a soft one, at which the guest is warned, is an entry of its own.
#[derive(Debug)]
pub struct LimitSpec {
    /// Its name in `[limits]` and `[max_limits]`.
    pub name: &'static str,
    /// Its description, in a line.
    pub doc: &'static str,
    /// The limit that this is, or precedes.
    pub limit: Limit,
    /// True for a soft limit, which precedes the hard one. It has neither default nor ceiling.
    pub is_soft: bool,
    /// The unit of its amounts.
    pub unit: Unit,
    /// Its name in a manifest.
    pub manifest: &'static str,
    /// Its flag on the command line.
    pub flag: Option<&'static str>,
}

impl LimitSpec {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("PETIOLE_{}_LIMIT", self.name.to_uppercase())
    }

    /// The environment variable of its ceiling.
    pub fn max_variable(&self) -> String {
        format!("PETIOLE_MAX_{}_LIMIT", self.name.to_uppercase())
    }
}

/// Removes the soft limits that would never be reached, since they are not below their hard ones.
pub fn drop_unreachable(amounts: &mut Amounts) {
    for soft in LIMITS.iter().filter(|spec| spec.is_soft) {
        let hard = amounts.get(soft.limit.name());
        if hard.is_some_and(|hard| amounts.get(soft.name).is_some_and(|soft| soft >= hard)) {
            amounts.remove(soft.name);
        }
    }
}

macro_rules! limits {
    ($(
        #[doc = $doc:literal]
        $limit:ident: $name:ident $unit:ident($type:ty) = $default:expr, at most $ceiling:expr,
            manifest $manifest:literal $(flag $flag:literal)?
            $(soft $soft:ident manifest $soft_manifest:literal flag $soft_flag:literal)?,
            $exception:literal $message:literal;
    )*) => {
        /// The limits of one call. Every field is required: a limit that is an option is one that is forgotten.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $(
                #[doc = $doc]
                pub $name: $type,
                $(
                    #[doc = concat!("The guest is told at this much of `", stringify!($name), "`; none for never.")]
                    pub $soft: Option<$type>,
                )?
            )*
        }

        /// One of the [`Limits`], or the guest's stack, whose limit is the whole worker's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Limit {
            $(#[doc = $doc] $limit,)*
            /// The guest's call stack.
            Stack,
        }

        /// All limits that can be set, each followed by its soft one.
        pub const LIMITS: &[LimitSpec] = &[$(
            LimitSpec {
                name: stringify!($name),
                doc: $doc.trim_ascii(),
                limit: Limit::$limit,
                is_soft: false,
                unit: Unit::$unit,
                manifest: $manifest,
                flag: [$($flag)?].first().copied(),
            },
            $(LimitSpec {
                name: stringify!($soft),
                doc: "",
                limit: Limit::$limit,
                is_soft: true,
                unit: Unit::$unit,
                manifest: $soft_manifest,
                flag: Some($soft_flag),
            },)?
        )*];

        impl Limits {
            /// The limits of a task where nobody sets others.
            pub const DEFAULTS: Self = Self { $($name: $default, $($soft: None,)?)* };

            /// The most that a manifest may ask for, unless the operator sets another ceiling.
            pub const CEILINGS: Self = Self { $($name: $ceiling, $($soft: None,)?)* };

            /// Reads the amounts, with the default for each that is missing, and at most what its type can hold.
            pub fn of(amounts: &Amounts) -> Self {
                let of = |name| amounts.get(name).copied();
                Self {$(
                    $name: of(stringify!($name)).map_or(Self::DEFAULTS.$name, Field::of),
                    $($soft: of(stringify!($soft)).map(Field::of),)?
                )*}
            }

            /// The amounts by name.
            pub fn amounts(&self) -> Amounts {
                let mut amounts = Amounts::new();
                $(
                    amounts.insert(stringify!($name), self.$name.amount(Unit::$unit));
                    $(amounts.extend(self.$soft.map(|it| (stringify!($soft), it.amount(Unit::$unit))));)?
                )*
                amounts
            }
        }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$limit,)* Self::Stack];

            /// Its name in configuration and metrics: `cpu_time`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$limit => stringify!($name),)*
                    Self::Stack => "stack",
                }
            }

            /// The class of the exception that the task fails with.
            pub fn exception(self) -> &'static str {
                match self {
                    $(Self::$limit => $exception,)*
                    Self::Stack => "StackOverflow",
                }
            }

            /// The message of a task that exceeds it. `asked` is all that the guest would have had with its last
            /// request; both are in bytes, things or microseconds.
            pub fn message(self, allowed: u64, asked: u64) -> String {
                let (unit, text) = match self {
                    $(Self::$limit => (Unit::$unit, $message),)*
                    Self::Stack => (Unit::Count, "call stack exhausted"),
                };
                let amount = |number| format!("{:#}", unit.amount(number));
                text.replace("{allowed}", &amount(allowed)).replace("{asked}", &amount(asked))
            }
        }
    };
}

limits! {
    /// All linear memories together.
    Memory: memory Size(usize) = 256 << 20, at most 1 << 30,
        manifest "memory" flag "--memory-limit",
        "MemoryLimitExceeded" "memory limit of {allowed} exceeded: the task asked for {asked}";
    /// Elements of all tables together; one table has 100,000 at most.
    TableElements: table_elements Count(usize) = 400_000, at most 800_000,
        manifest "max_table_elements",
        "TableLimitExceeded" "table limit of {allowed} elements exceeded: the task asked for {asked}";
    /// Time on a CPU.
    CpuTime: cpu_time Time(Duration) = Duration::from_secs(300), at most Duration::from_secs(86_400),
        manifest "cpu_time_limit" flag "--cpu-time-limit"
        soft soft_cpu_time manifest "soft_cpu_time_limit" flag "--soft-cpu-time-limit",
        "CpuTimeLimitExceeded" "CPU time limit of {allowed} exceeded: the task used {asked}";
    /// Time from instantiation to the result.
    Time: time Time(Duration) = Duration::from_secs(300), at most Duration::from_secs(86_400),
        manifest "time_limit" flag "--time-limit"
        soft soft_time manifest "soft_time_limit" flag "--soft-time-limit",
        "TimeLimitExceeded" "time limit of {allowed} exceeded: the task took {asked}";
    /// The message's body; checked where messages are admitted, not by the sandbox.
    Arguments: arguments Size(usize) = 16 << 20, at most 16 << 20,
        manifest "max_arguments",
        "ArgumentsTooLarge" "argument limit of {allowed} exceeded: the task was given {asked} or more";
    /// The result as JSON; also all signatures that are sent, together.
    Result: result Size(usize) = 8 << 20, at most 64 << 20,
        manifest "max_result",
        "ResultTooLarge" "result limit of {allowed} exceeded: the task sent {asked}";
    /// Log, stdout and stderr.
    Log: log Size(usize) = 1 << 20, at most 64 << 20,
        manifest "max_log",
        "LogLimitExceeded" "log limit of {allowed} exceeded: the task wrote {asked}";
    /// Component-model handles, and WASI resources (pollables, streams), each.
    Handles: handles Count(usize) = 10_000, at most 100_000,
        manifest "max_handles",
        "HandleLimitExceeded" "handle limit of {allowed} exceeded: the task asked for {asked}";
    /// Random bytes in all.
    Random: random Size(u64) = 64 << 20, at most 1 << 30,
        manifest "max_random",
        "RandomLimitExceeded" "random limit of {allowed} exceeded: the task asked for {asked}";
    /// Calls of imported functions.
    HostCalls: host_calls Count(u64) = 100_000_000, at most 1_000_000_000_000,
        manifest "max_host_calls",
        "HostCallLimitExceeded" "host call limit of {allowed} exceeded: the task made {asked}";
    /// Signatures that one run sends, with those nested in them.
    Children: children Count(usize) = 1_000, at most 100_000,
        manifest "max_children",
        "ChildrenLimitExceeded" "children limit of {allowed} exceeded: the task sent {asked}";
    /// Tasks that come of one root, at all levels together.
    Descendants: descendants Count(usize) = 10_000, at most 1_000_000,
        manifest "max_descendants",
        "DescendantsLimitExceeded"
        "descendants limit exceeded: {allowed} may still come of the root task, the task sent {asked}";
    /// Levels of tasks that send tasks.
    Depth: depth Count(u32) = 100, at most 1_000,
        manifest "max_depth",
        "DepthLimitExceeded"
        "depth limit exceeded: {allowed} more levels of tasks may follow, the task sent {asked}";
    /// Outbound HTTP requests and TCP connections.
    Requests: requests Count(u32) = 100, at most 100_000,
        manifest "max_requests",
        "RequestLimitExceeded" "request limit of {allowed} exceeded: the task made {asked}";
    /// Bytes written to folders, `/tmp` and key-value storage; 4 KiB for each file, folder and link that is made.
    Disk: disk Size(u64) = 64 << 20, at most 4 << 30,
        manifest "max_disk",
        "DiskLimitExceeded" "disk limit of {allowed} exceeded: the task wrote {asked}";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_message_has_limit_and_value_in_units() {
        const MIB: u64 = 1 << 20;
        for (limit, allowed, asked, text) in [
            (
                Limit::Memory,
                64 * MIB,
                96 * MIB,
                "memory limit of 64 MiB exceeded: the task asked for 96 MiB",
            ),
            (
                Limit::TableElements,
                400_000,
                400_001,
                "table limit of 400000 elements exceeded: the task asked for 400001",
            ),
            (
                Limit::CpuTime,
                2_000_000,
                2_010_000,
                "CPU time limit of 2 s exceeded: the task used 2.01 s",
            ),
            (
                Limit::Time,
                50_000,
                51_000,
                "time limit of 0.05 s exceeded: the task took 0.051 s",
            ),
            (
                Limit::Log,
                1024,
                1025,
                "log limit of 1 KiB exceeded: the task wrote 1025 bytes",
            ),
            (
                Limit::Random,
                0,
                8,
                "random limit of 0 bytes exceeded: the task asked for 8 bytes",
            ),
            (
                Limit::HostCalls,
                10,
                11,
                "host call limit of 10 exceeded: the task made 11",
            ),
            (Limit::Stack, 0, 1, "call stack exhausted"),
        ] {
            assert_eq!(limit.message(allowed, asked), text);
        }
    }

    #[test]
    fn names_and_exceptions_are_distinct() {
        let distinct = |of: fn(Limit) -> &'static str| {
            let all: HashSet<_> = Limit::ALL.iter().map(|limit| of(*limit)).collect();
            all.len()
        };
        assert_eq!(distinct(Limit::name), Limit::ALL.len());
        assert_eq!(distinct(Limit::exception), Limit::ALL.len());
        let names: HashSet<_> = LIMITS.iter().map(|spec| spec.name).collect();
        let manifests: HashSet<_> = LIMITS.iter().map(|spec| spec.manifest).collect();
        assert_eq!((names.len(), manifests.len()), (LIMITS.len(), LIMITS.len()));
    }

    #[test]
    fn defaults_are_within_their_ceilings() {
        let (defaults, ceilings) = (Limits::DEFAULTS.amounts(), Limits::CEILINGS.amounts());
        assert!(
            defaults
                .iter()
                .all(|(name, default)| ceilings.get(name) >= Some(default))
        );
        assert_eq!(Limits::of(&ceilings), Limits::CEILINGS);
        assert_eq!(Limits::of(&Amounts::new()), Limits::DEFAULTS);
    }

    #[test]
    fn a_soft_limit_is_below_its_hard_one() {
        let seconds = |seconds| Amount::Time(Duration::from_secs(seconds));
        for (hard, soft, is_left) in [(Some(10), 9, true), (Some(10), 10, false), (None, 10, true)]
        {
            let mut amounts = Amounts::from([("soft_time", seconds(soft))]);
            amounts.extend(hard.map(|hard| ("time", seconds(hard))));
            drop_unreachable(&mut amounts);
            assert_eq!(amounts.contains_key("soft_time"), is_left);
        }
    }
}
