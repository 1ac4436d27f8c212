//! Whether the resolved settings can be used together: decided from what is written, without looking outside. The URLs
//! of broker and results apart, which concern those who connect to them.

use std::collections::BTreeMap;

use petiole_permits::{Grant, ServiceUrl, Size, is_folder, is_variable};

use super::layer::Setting;
use super::resolve::{Resolved, most_of_task};
use super::{ConfigError, url};

/// The shortest token that the API takes: 16 characters.
const MIN_TOKEN: usize = 16;

/// What a 32-bit linear memory can hold.
const ADDRESSABLE: Size = Size::new(4 << 30);

pub(super) fn check(c: &Resolved) -> Result<(), ConfigError> {
    urls(c)?;
    limits(c)?;
    c.queues.check(|queues| {
        match queues.iter().any(|queue| queue.trim().is_empty()) || queues.is_empty() {
            true => Err(format!(
                "queues {queues:?}: name at least one, and none that is empty"
            )),
            false => Ok(()),
        }
    })?;
    c.quarantine_queue.check(|kept| match c.queues.value.contains(kept) {
        true => Err(format!(
            "quarantine_queue {kept:?} is one of the queues that tasks are taken from: name another one"
        )),
        false => Ok(()),
    })?;
    c.http_token.check(|token| {
        match token
            .as_deref()
            .is_some_and(|token| token.len() < MIN_TOKEN)
        {
            true => Err(format!(
                "http.token is shorter than {MIN_TOKEN} characters: others could guess it"
            )),
            false => Ok(()),
        }
    })?;
    c.http.check()?;
    names(c)?;
    c.grants.iter().try_for_each(|grant| check_grant(c, grant))
}

/// A grant names only what the configuration has.
fn check_grant(c: &Resolved, grant: &Setting<(String, Grant)>) -> Result<(), ConfigError> {
    let (glob, Grant { capabilities, .. }) = &grant.value;
    let env = first_missing(&capabilities.env, &c.env).map(|name| ("env", name));
    let secret = first_missing(&capabilities.secrets, &c.secrets);
    let folder = first_missing(capabilities.folders.keys(), &c.folders);
    let missing = env
        .or(secret.map(|name| ("secrets", name)))
        .or(folder.map(|name| ("folders", name)));
    match missing {
        Some((table, name)) => Err(grant.wrong(format!(
            "grants.{glob:?} allows {name}, and [{table}] does not say what that is"
        ))),
        None => Ok(()),
    }
}

/// What Celery's own setting may name and Petiole has not need not stand in Celery's way, nor in that of a command
/// which does not use it.
impl Resolved {
    /// Whether the broker's URL can be used.
    pub(crate) fn check_broker(&self) -> Result<(), ConfigError> {
        let checked =
            |urls: &ServiceUrl| petiole_broker::check(urls).map_err(|error| error.to_string());
        server(&self.broker, "PETIOLE_BROKER_URL or -b", checked)
    }

    /// Whether the result backend's URL can be used.
    pub(crate) fn check_results(&self) -> Result<(), ConfigError> {
        let checked = |url: &ServiceUrl| {
            petiole_storage::results::mode(url).map_err(|error| error.to_string())
        };
        let ours = "PETIOLE_RESULT_BACKEND or --results";
        server(&self.results, ours, |url| checked(url).map(drop))
    }
}

/// Checks a URL that may be in one of Celery's variables; `ours` goes before that.
fn server(
    setting: &Setting<ServiceUrl>,
    ours: &str,
    checked: impl Fn(&ServiceUrl) -> Result<(), String>,
) -> Result<(), ConfigError> {
    setting.check(|url| {
        checked(url).map_err(|reason| match setting.origin.starts_with("env CELERY_") {
            true => format!("{reason}. Where Celery needs it so, name Petiole's own with {ours}, which goes before it"),
            false => reason,
        })
    })
}

fn urls(c: &Resolved) -> Result<(), ConfigError> {
    c.store.check(url::check_store)?;
    let optional = |check: fn(&ServiceUrl) -> Result<(), String>| {
        move |url: &Option<ServiceUrl>| url.as_ref().map_or(Ok(()), check)
    };
    c.api.check(optional(|url| url::api_url(url).map(drop)))?;
    c.keyvalue.check(optional(|url| {
        petiole_storage::keyvalue::check(url).map_err(|error| error.to_string())
    }))
}

fn limits(c: &Resolved) -> Result<(), ConfigError> {
    // First: where it is too small, so are the limits that follow from it.
    least_budget(c)?;
    for (name, time) in [("time", &c.limits.time), ("cpu_time", &c.limits.cpu_time)] {
        if time.value.0.is_zero() {
            return Err(time.wrong(format!("limits.{name} is 0: no task could run")));
        }
    }
    if c.limits.memory.value.bytes() == 0 {
        let memory = &c.limits.memory;
        return Err(memory.wrong("limits.memory is 0: no task could run"));
    }
    let most = &c.max_limits.memory;
    if most.value > ADDRESSABLE {
        return Err(most.wrong(format!(
            "max_limits.memory {} is more than a sandbox can address: at most {ADDRESSABLE}",
            most.value
        )));
    }
    memory_budget(c)?;
    c.limits.check(&c.max_limits)?;
    c.max_limits.limits().map(|_| ())
}

/// The least memory for all tasks together: 32 MiB, of which one has some beside its values and tables.
const MIN_BUDGET: Size = Size::new(32 << 20);

fn least_budget(c: &Resolved) -> Result<(), ConfigError> {
    c.memory_budget.check(|budget| match *budget < MIN_BUDGET {
        true => Err(format!(
            "memory_budget {budget} is less than {MIN_BUDGET}: no task could run"
        )),
        false => Ok(()),
    })
}

/// A task that runs alone always fits.
fn memory_budget(c: &Resolved) -> Result<(), ConfigError> {
    let (budget, most) = (&c.memory_budget, &c.max_limits.memory);
    let tables = c.max_limits.table_elements.value;
    let fits = most_of_task(budget.value, c.concurrency.value, tables);
    if most.value > fits {
        return Err(most.wrong(format!(
            "max_limits.memory {} is more than the {fits} that one task may have of memory_budget {} with {} slots: \
             lower it, or raise memory_budget",
            most.value, budget.value, c.concurrency.value
        )));
    }
    Ok(())
}

/// The names of values and folders are those that a manifest can ask for.
fn names(c: &Resolved) -> Result<(), ConfigError> {
    for (table, values) in [("env", &c.env), ("secrets", &c.secrets)] {
        if let Some((name, value)) = values.iter().find(|(name, _)| !is_variable(name)) {
            return Err(value.wrong(format!(
                "{table}.{name:?} is no variable's name: letters, digits and _, no digit first"
            )));
        }
    }
    if let Some((name, value)) = c.env.iter().find(|(name, _)| c.secrets.contains_key(*name)) {
        return Err(value.wrong(format!(
            "{name} is in [env] and in [secrets]: write it in one of them"
        )));
    }
    if let Some((name, folder)) = c.folders.iter().find(|(name, _)| !is_folder(name)) {
        return Err(folder.wrong(format!(
            "folders.{name:?}: a folder's name has letters, digits, _, - and ., no . first, and is not tmp"
        )));
    }
    match c
        .queue_concurrency
        .iter()
        .find(|(queue, _)| queue.trim().is_empty())
    {
        Some((_, cap)) => Err(cap.wrong("queue_concurrency: a queue has a name")),
        None => Ok(()),
    }
}

fn first_missing<'a, T>(
    names: impl IntoIterator<Item = &'a String>,
    table: &BTreeMap<String, Setting<T>>,
) -> Option<&'a String> {
    names.into_iter().find(|name| !table.contains_key(*name))
}
