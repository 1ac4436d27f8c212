//! The tasks that a chain or a group is made of, each with its id.

use std::collections::HashSet;

use serde_json::Value;

use super::{MAX_CALLS, malformed};
use crate::options::Options;
use crate::{ChildKind, Refusal, Signature, SignatureError, child_id};

/// The steps of a chain, with chains in it laid out flat and groups of one replaced by their task.
pub(super) fn splice(chain: &Signature, steps: &mut Vec<Signature>) -> Result<(), Refusal> {
    for step in tasks(chain)? {
        if step.subtask_type.as_deref() == Some("chain") {
            splice(&step, steps)?;
            continue;
        }
        match (is_group(&step), tasks_of_group(&step)?.as_slice()) {
            (true, [only]) => match only.subtask_type.as_deref() {
                Some("chain") => splice(only, steps)?,
                _ => steps.push(only.clone()),
            },
            _ => steps.push(step),
        }
    }
    Ok(())
}

/// A chain's `link` belongs to its last task, its `link_error` to each.
pub(super) fn link(options: &Options, steps: &mut [Signature]) -> Result<(), Refusal> {
    if let Some(last) = steps.last_mut() {
        extend(last, "link", &options.link)?;
    }
    for step in steps {
        extend(step, "link_error", &options.link_error)?;
    }
    Ok(())
}

/// Adds signatures to a list option, each once.
fn extend(signature: &mut Signature, name: &str, values: &[Value]) -> Result<(), Refusal> {
    if values.is_empty() {
        return Ok(());
    }
    let options = Options::read(&signature.task, &signature.options)?;
    if values.len() > MAX_CALLS {
        return Err(malformed(format!(
            "`{name}` has more than {MAX_CALLS} signatures"
        )));
    }
    let mut all = if name == "link" {
        options.link
    } else {
        options.link_error
    };
    // Each value is hashed once: comparing all with all takes hours where a message has thousands.
    let mut seen: HashSet<&Value> = all.iter().collect();
    let added: Vec<&Value> = values.iter().filter(|value| seen.insert(value)).collect();
    all.extend(added.into_iter().cloned());
    signature.options.insert(name.to_owned(), all.into());
    Ok(())
}

/// Gives each step an id, and its last one what makes it stand for the chain.
pub(super) fn name_steps(
    steps: &mut [Signature],
    chain: &Signature,
    id: &str,
) -> Result<Vec<String>, Refusal> {
    let last = steps.len().saturating_sub(1);
    let mut ids = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter_mut().enumerate() {
        let default = if index == last {
            id.to_owned()
        } else {
            child_id(id, 0, ChildKind::Chain, index)
        };
        let step_id = step.task_id().map_or(default, str::to_owned);
        step.options
            .insert("task_id".into(), step_id.clone().into());
        if index == last {
            for name in ["group_id", "group_index", "chord"] {
                if let Some(value) = chain.options.get(name) {
                    step.options.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        if is_group(step) {
            let members = members(step, &step_id)?;
            step.kwargs.insert(
                "tasks".into(),
                members.iter().map(Signature::to_json).collect(),
            );
        }
        ids.push(step_id);
    }
    Ok(ids)
}

/// A group's tasks, each with its id and its place.
pub(super) fn members(group: &Signature, id: &str) -> Result<Vec<Signature>, Refusal> {
    let mut members = Vec::new();
    flatten(group, &mut members)?;
    for (index, member) in members.iter_mut().enumerate() {
        let member_id = member
            .task_id()
            .map_or_else(|| child_id(id, 0, ChildKind::Group, index), str::to_owned);
        member.options.insert("task_id".into(), member_id.into());
        member.options.insert("group_index".into(), index.into());
    }
    Ok(members)
}

fn flatten(group: &Signature, members: &mut Vec<Signature>) -> Result<(), Refusal> {
    for member in tasks(group)? {
        if is_group(&member) {
            flatten(&member, members)?;
        } else {
            members.push(member);
        }
    }
    Ok(())
}

pub(super) fn is_group(signature: &Signature) -> bool {
    signature.subtask_type.as_deref() == Some("group")
}

pub(super) fn is_empty_group(signature: &Signature) -> bool {
    is_group(signature) && tasks(signature).is_ok_and(|tasks| tasks.is_empty())
}

fn tasks_of_group(signature: &Signature) -> Result<Vec<Signature>, Refusal> {
    if is_group(signature) {
        tasks(signature)
    } else {
        Ok(Vec::new())
    }
}

/// The signatures that a chain or a group is made of.
fn tasks(workflow: &Signature) -> Result<Vec<Signature>, Refusal> {
    let Some(Value::Array(tasks)) = workflow.kwargs.get("tasks") else {
        return Err(malformed(format!(
            "{:?} has no array `tasks` in its kwargs",
            workflow.task
        )));
    };
    Ok(tasks
        .iter()
        .map(Signature::from_json)
        .collect::<Result<_, SignatureError>>()?)
}
