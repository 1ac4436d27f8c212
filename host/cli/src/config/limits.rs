//! The limits of tasks, and the most that manifests may ask for, by the rows of [`LIMITS`].

use petiole_permits::{Amount, Amounts, LIMITS, LimitSpec, Limits, Size, Unit};

use super::error::ConfigError;
use super::key::{Key, Kind};
use super::layer::{Merged, Origins, Values};
use super::units::{Count, Seconds};
use super::worker::WorkerSettings;

/// The memory that a 32-bit linear memory can hold.
const ADDRESSABLE: Size = Size::new(4 << 30);

/// `[limits]` and `[max_limits]`.
#[derive(Debug, Clone)]
pub(crate) struct LimitSettings {
    /// The limits of a task whose manifest says nothing.
    pub limits: Limits,
    /// The most that a manifest may ask for.
    pub most: Limits,
    /// The places where they are set.
    pub origins: Origins,
}

fn path(spec: &LimitSpec) -> String {
    format!("limits.{}", spec.name)
}

fn max_path(spec: &LimitSpec) -> String {
    format!("max_limits.{}", spec.name)
}

fn hard() -> impl Iterator<Item = &'static LimitSpec> {
    LIMITS.iter().filter(|spec| !spec.is_soft)
}

impl LimitSettings {
    pub(super) fn keys() -> Vec<Key> {
        let key = |path, variable, unit, flag| {
            let new = match unit {
                Unit::Size => Key::new::<Size>,
                Unit::Count => Key::new::<Count>,
                Unit::Time => Key::new::<Seconds>,
            };
            new(path, Kind::Plain, vec![variable], flag)
        };
        let limits = LIMITS
            .iter()
            .map(|spec| key(path(spec), spec.variable(), spec.unit, spec.flag));
        let most = hard().map(|spec| key(max_path(spec), spec.max_variable(), spec.unit, None));
        limits.chain(most).collect()
    }

    /// Reads and checks them. A default gives way to a lower maximum, and that of the memory to the worker's budget.
    pub(super) fn resolve(merged: &Merged, worker: &WorkerSettings) -> Result<Self, ConfigError> {
        let mut origins = merged.origins.clone();
        let mut most = Limits::CEILINGS.amounts();
        for spec in hard() {
            most.extend(amount(merged, &max_path(spec), spec.unit)?.map(|it| (spec.name, it)));
        }
        let fits = Amount::Size(worker.most_of_task(Limits::of(&most).table_elements));
        if !origins.has("max_limits.memory") {
            most.entry("memory")
                .and_modify(|most| *most = fits.min(*most));
        }
        let mut limits = Limits::DEFAULTS.amounts();
        for spec in LIMITS {
            if let Some(set) = amount(merged, &path(spec), spec.unit)? {
                limits.insert(spec.name, set);
            } else if let (Some(default), Some(most)) =
                (limits.get_mut(spec.name), most.get(spec.name))
                && most < default
            {
                *default = *most;
                origins.follow(&path(spec), &max_path(spec));
            }
        }
        check_memory(&most, fits, worker, &origins)?;
        check(&limits, &most, &origins)?;
        Ok(Self {
            limits: counted(&limits, path, &origins)?,
            most: counted(&most, max_path, &origins)?,
            origins,
        })
    }

    /// The values by their keys.
    pub(super) fn values(&self) -> Values {
        let written = |limits: &Limits, path: fn(&LimitSpec) -> String| {
            let amounts = limits.amounts();
            let specs = LIMITS.iter();
            specs
                .filter_map(|spec| Some((path(spec), value(*amounts.get(spec.name)?))))
                .collect::<Vec<_>>()
        };
        let limits = written(&self.limits, path).into_iter();
        limits.chain(written(&self.most, max_path)).collect()
    }
}

fn amount(merged: &Merged, path: &str, unit: Unit) -> Result<Option<Amount>, ConfigError> {
    Ok(match unit {
        Unit::Size => merged.get(path)?.map(Amount::Size),
        Unit::Count => merged.get(path)?.map(|Count(count)| Amount::Count(count)),
        Unit::Time => merged.get(path)?.map(|Seconds(time)| Amount::Time(time)),
    })
}

/// As it is written.
fn value(amount: Amount) -> toml::Value {
    match amount {
        Amount::Size(size) => size.to_string().into(),
        Amount::Count(count) => i64::try_from(count).unwrap_or(i64::MAX).into(),
        Amount::Time(time) => time.as_secs_f64().into(),
    }
}

/// As it is written, in a sentence.
fn text(amount: Amount) -> String {
    match amount {
        Amount::Time(time) => time.as_secs_f64().to_string(),
        amount => amount.to_string(),
    }
}

/// A task that runs alone always fits into the worker's budget.
fn check_memory(
    most: &Amounts,
    fits: Amount,
    worker: &WorkerSettings,
    origins: &Origins,
) -> Result<(), ConfigError> {
    let wrong = |reason| Err(origins.wrong("max_limits.memory", reason));
    match most.get("memory") {
        Some(memory) if *memory > Amount::Size(ADDRESSABLE) => wrong(format!(
            "max_limits.memory {memory} is more than a sandbox can address: at most {ADDRESSABLE}"
        )),
        Some(memory) if *memory > fits => wrong(format!(
            "max_limits.memory {memory} is more than the {fits} that one task may have of memory_budget {} with {} slots: \
             lower it, or raise memory_budget",
            worker.memory_budget(),
            worker.concurrency
        )),
        _ => Ok(()),
    }
}

/// Tasks can run at all, and no limit is above its maximum.
fn check(limits: &Amounts, most: &Amounts, origins: &Origins) -> Result<(), ConfigError> {
    for spec in hard() {
        let (path, max_path) = (path(spec), max_path(spec));
        let (Some(limit), Some(most)) = (limits.get(spec.name), most.get(spec.name)) else {
            continue;
        };
        if ["time", "cpu_time", "memory"].contains(&spec.name) && limit.number() == 0 {
            return Err(origins.wrong(&path, format!("{path} is 0: no task could run")));
        }
        if limit > most {
            let (limit, most) = (text(*limit), text(*most));
            let reason =
                format!("{path} {limit} is more than {max_path} {most}: raise that one too");
            return Err(origins.wrong(&path, reason));
        }
    }
    Ok(())
}

/// The limits, in the types that the worker counts them in.
fn counted(
    amounts: &Amounts,
    path: fn(&LimitSpec) -> String,
    origins: &Origins,
) -> Result<Limits, ConfigError> {
    let limits = Limits::of(amounts);
    let counted = limits.amounts();
    for spec in LIMITS {
        if let Some(amount) = amounts.get(spec.name)
            && counted.get(spec.name) != Some(amount)
        {
            let (path, amount) = (path(spec), text(*amount));
            let reason = format!("{path} {amount} is more than a worker can count");
            return Err(origins.wrong(&path, reason));
        }
    }
    Ok(limits)
}
