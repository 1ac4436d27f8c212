//! The steps that a chain is made of, each with its id.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::Value;

use crate::options::Options;
use crate::part::{Part, tasks};
use crate::signature::{SignatureRef, malformed};
use crate::{ChildKind, Refusal, child_id};

/// Messages that one signature, or a list of callbacks, may stand for.
pub(super) const MAX_CALLS: usize = 10_000;

/// The steps of a chain, with chains in it laid out flat and groups of one replaced by their task.
pub(super) fn splice<'a>(
    chain: &SignatureRef<'a>,
    steps: &mut Vec<Part<'a>>,
) -> Result<(), Refusal> {
    for step in tasks(chain)? {
        let mut step = SignatureRef::from_json(step)?;
        if step.is_group()
            && let [only] = tasks(&step)?
        {
            step = SignatureRef::from_json(only)?;
        }
        match step.subtask_type {
            Some("chain") => splice(&step, steps)?,
            _ => steps.push(Part::of(step)),
        }
    }
    Ok(())
}

/// A chain's `link` belongs to its last task, its `link_error` to each.
pub(super) fn link<'a>(options: &Options<'a>, steps: &mut [Part<'a>]) -> Result<(), Refusal> {
    if let Some((last, _)) = steps.split_last_mut() {
        extend(std::slice::from_mut(last), "link", &options.link)?;
    }
    extend(steps, "link_error", &options.link_error)
}

/// Adds signatures to a list option, each once.
fn extend<'a>(steps: &mut [Part<'a>], name: &str, values: &[&'a Value]) -> Result<(), Refusal> {
    if values.is_empty() {
        return Ok(());
    }
    if values.len() > MAX_CALLS {
        return Err(malformed(format!(
            "`{name}` has more than {MAX_CALLS} signatures"
        )));
    }
    // Each value is hashed: comparing all with all takes hours where a message has thousands.
    let mut seen = HashSet::new();
    let all = values.iter().copied().filter(|value| seen.insert(*value));
    let all: Rc<[&Value]> = all.collect();
    for step in steps {
        Options::read(step.signature.task, &step.options)?;
        let all = match step.signature.following(name) {
            [] => Rc::clone(&all),
            own => joined(own, &all),
        };
        step.options.set_links(name, all);
    }
    Ok(())
}

fn joined<'a>(own: &'a [Value], all: &[&'a Value]) -> Rc<[&'a Value]> {
    let has: HashSet<&Value> = own.iter().collect();
    let added = all.iter().copied().filter(|value| !has.contains(value));
    own.iter().chain(added).collect()
}

/// Gives each step an id, and its last one what makes it stand for the chain.
pub(super) fn name_steps<'a>(steps: Vec<Part<'a>>, chain: &'a Part<'a>) -> Vec<Part<'a>> {
    let last = steps.len().saturating_sub(1);
    let id = chain.id();
    let name = |(index, step): (usize, Part<'a>)| {
        if index < last {
            return step.named(|| child_id(id, 0, ChildKind::Chain, index));
        }
        let mut step = step.named(|| id.to_owned());
        step.options.stand_for(&chain.options);
        step
    };
    steps.into_iter().enumerate().map(name).collect()
}
