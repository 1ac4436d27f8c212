//! The tasks that a chain or a group is made of, each with its id.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::Value;

use super::{MAX_CALLS, Part, malformed};
use crate::options::Options;
use crate::signature::SignatureRef;
use crate::{ChildKind, Refusal, child_id};

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

/// A group's tasks, each with its id and its place.
pub(super) fn members<'a>(group: &Part<'a>) -> Result<Vec<Part<'a>>, Refusal> {
    let mut members = Vec::new();
    flatten(group.signature, &mut members)?;
    Ok(placed(members, group.id()))
}

/// The same of tasks that are signatures already: those that are groups are laid out flat.
pub(super) fn gathered<'a>(tasks: Vec<Part<'a>>, id: &str) -> Result<Vec<Part<'a>>, Refusal> {
    let mut members = Vec::with_capacity(tasks.len());
    for task in tasks {
        if task.signature.is_group() {
            flatten(task.signature, &mut members)?;
        } else {
            members.push(task);
        }
    }
    Ok(placed(members, id))
}

fn placed<'a>(members: Vec<Part<'a>>, id: &str) -> Vec<Part<'a>> {
    let place = |(index, member): (usize, Part<'a>)| {
        let mut member = member.named(|| child_id(id, 0, ChildKind::Group, index));
        member.options.set_index(index);
        member
    };
    members.into_iter().enumerate().map(place).collect()
}

fn flatten<'a>(group: SignatureRef<'a>, members: &mut Vec<Part<'a>>) -> Result<(), Refusal> {
    for member in tasks(&group)? {
        let member = SignatureRef::from_json(member)?;
        if member.is_group() {
            flatten(member, members)?;
        } else {
            members.push(Part::of(member));
        }
    }
    Ok(())
}

pub(super) fn is_empty_group(signature: &SignatureRef<'_>) -> bool {
    signature.is_group() && tasks(signature).is_ok_and(<[Value]>::is_empty)
}

/// The signatures that a chain or a group is made of.
fn tasks<'a>(workflow: &SignatureRef<'a>) -> Result<&'a [Value], Refusal> {
    match workflow.kwargs.get("tasks") {
        Some(Value::Array(tasks)) => Ok(tasks),
        _ => Err(malformed(format!(
            "{:?} has no array `tasks` in its kwargs",
            workflow.task
        ))),
    }
}
