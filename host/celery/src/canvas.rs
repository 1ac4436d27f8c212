//! Unfolding workflows: which task messages a signature stands for. What Celery's canvas does when a
//! chain or a group is applied, with ids that are the same each time.
//!
//! Signatures are walked where they stand in the request, and each message is handed on before the next one is
//! made: memory and time are in proportion to what is read and sent.

mod steps;

use serde_json::{Value, json};

use crate::json::size;
use crate::options::Options;
use crate::part::{Part, gathered, is_empty_group, members};
use crate::signature::{SignatureRef, malformed};
use crate::{Embed, Refusal, Signature, compose};
use steps::{MAX_CALLS, link, name_steps, splice};

/// Tasks that the callbacks, the errbacks or the rest of a chain may consist of, at all levels: each is checked before
/// any of them is sent.
const MAX_TASKS: usize = 100_000;
/// Bytes of a workflow that may be copied to its tasks: a group's options go to each of its members, a chain's
/// `link_error` to each of its steps.
const MAX_COPIED_BYTES: usize = 64 << 20;
/// Steps of a chain that the result of a group names, the last ones: JSON that is nested deeper has no reader. Python's
/// own library fails before.
const MAX_PARENTS: usize = 400;

/// Called for each message to be sent: a task in its place, and the rest of its chain, reversed.
pub(crate) type Send<'s, E> = dyn FnMut(&Part<'_>, &[Part<'_>]) -> Result<(), E> + 's;

/// A signature's share of its sender's children and of a group's results.
#[derive(Default)]
pub(crate) struct Unfolded {
    /// Its entry among its sender's children, as Celery nests it: for a chain the first task. None if there is nothing
    /// to send.
    pub(crate) child: Option<Value>,
    /// Its entry among a group's results, where that differs: for a chain the last task, with the others as parents.
    result: Option<Value>,
}

/// Room left for what follows a task.
pub(crate) struct Budget {
    tasks: usize,
    calls: usize,
    copied: usize,
    /// Of the messages, without their bodies.
    memory: usize,
    sent_limit: usize,
}

/// Checks that what follows a task can be sent. `sent_limit`: [`Policy`](crate::plan::Policy)'s.
pub(crate) fn check(embed: &Embed, sent_limit: usize) -> Result<(), Refusal> {
    if embed.chord.is_some() {
        return Err(unsupported("a task in the header of a chord"));
    }
    check_all(&embed.callbacks, sent_limit)?;
    check_all(&embed.errbacks, sent_limit)?;
    check_steps(&embed.chain, sent_limit)
}

/// Checks that callbacks can be sent, and that without bodies their messages take at most `sent_limit` bytes of memory.
fn check_all(signatures: &[Signature], sent_limit: usize) -> Result<(), Refusal> {
    if signatures.len() > MAX_CALLS {
        return Err(malformed(format!("more than {MAX_CALLS} callbacks")));
    }
    let mut budget = Budget::new(sent_limit);
    let mut parts = signatures.iter().map(|each| Part::of(each.view()));
    parts.try_for_each(|part| budget.check(&part.named(String::new)))
}

/// Checks that the rest of a chain can be sent, and that nothing waits for a step of it that does not hear when the
/// chain fails before.
fn check_steps(chain: &[Signature], sent_limit: usize) -> Result<(), Refusal> {
    let has_chord = |step: &Signature| {
        step.options
            .get("chord")
            .is_some_and(|chord| !chord.is_null())
    };
    if chain.iter().any(has_chord) {
        return Err(unsupported("a chain in the header of a chord"));
    }
    let mut budget = Budget::new(sent_limit);
    let mut steps: Vec<Part<'_>> = chain
        .iter()
        .map(|step| Part::of(step.view()).named(String::new))
        .collect();
    let Some(next) = steps.pop() else {
        return Ok(());
    };
    steps.iter().try_for_each(|step| budget.check_step(step))?;
    budget.unfold(&next, steps, &mut |_, _| Ok(())).map(drop)
}

impl Budget {
    /// `sent_limit`: of the messages, in bytes of memory.
    pub(crate) fn new(sent_limit: usize) -> Self {
        Self {
            tasks: MAX_TASKS,
            calls: MAX_CALLS,
            copied: MAX_COPIED_BYTES,
            memory: sent_limit,
            sent_limit,
        }
    }

    /// Checks that a signature can be sent.
    pub(crate) fn check(&mut self, part: &Part<'_>) -> Result<(), Refusal> {
        self.unfold(part, Vec::new(), &mut |_, _| Ok(())).map(drop)
    }

    /// The same of one that is sent by another task, whose own messages they are.
    fn check_step(&mut self, step: &Part<'_>) -> Result<(), Refusal> {
        let (calls, memory) = (self.calls, self.memory);
        self.calls = MAX_CALLS;
        self.memory = self.sent_limit;
        self.check(step)?;
        self.calls = calls;
        self.memory = memory;
        Ok(())
    }

    /// Unfolds a signature, with `rest` of a chain after it, reversed.
    pub(crate) fn unfold<'a, E: From<Refusal>>(
        &mut self,
        part: &'a Part<'a>,
        rest: Vec<Part<'a>>,
        send: &mut Send<'_, E>,
    ) -> Result<Unfolded, E> {
        let Part { signature, .. } = part;
        match signature.subtask_type {
            Some("chain") => self.unfold_chain(part, rest, send),
            Some("group") => {
                check_followed(part, &rest)?;
                if part
                    .options
                    .get("chord")
                    .is_some_and(|chord| !chord.is_null())
                {
                    return Err(unsupported("a chord").into());
                }
                self.unfold_members(members(part)?, part, send)
            }
            Some("chord") => Err(unsupported("a chord").into()),
            Some(other) if signature.is_workflow() => {
                let reason = format!("`subtask_type` of {:?} is {other:?}", signature.task);
                Err(malformed(reason).into())
            }
            _ => self.unfold_task(part, &rest, send),
        }
    }

    /// Unfolds several signatures as one group.
    pub(crate) fn unfold_group<E: From<Refusal>>(
        &mut self,
        tasks: Vec<Part<'_>>,
        id: String,
        send: &mut Send<'_, E>,
    ) -> Result<Unfolded, E> {
        let members = gathered(tasks, &id)?;
        let group = Part::of(SignatureRef::group()).named(|| id);
        self.unfold_members(members, &group, send)
    }

    /// The first task, with the others embedded.
    fn unfold_chain<'a, E: From<Refusal>>(
        &mut self,
        chain: &'a Part<'a>,
        mut embedded: Vec<Part<'a>>,
        send: &mut Send<'_, E>,
    ) -> Result<Unfolded, E> {
        let options = Options::read(chain.signature.task, &chain.options).map_err(Refusal::from)?;
        let mut steps = Vec::new();
        splice(&chain.signature, &mut steps)?;
        if steps.len() > 1 {
            // Celery drops empty groups from a chain with anything else in it.
            steps.retain(|step| !is_empty_group(&step.signature));
        }
        self.copy(size(&options.link_error), steps.len())?;
        link(&options, &mut steps)?;
        let steps = name_steps(steps, chain);
        if embedded.is_empty() {
            for step in options.chain {
                embedded.push(Part::from_json(step).map_err(Refusal::from)?);
            }
        }
        let named = steps.iter().skip(steps.len().saturating_sub(MAX_PARENTS));
        let result = named.fold(Value::Null, |parent, step| async_result(step.id(), parent));

        let mut steps = steps.into_iter();
        let Some(first) = steps.next() else {
            return Ok(Unfolded::default());
        };
        for step in steps.rev() {
            self.check_step(&step)?;
            check_followed(&step, &embedded)?;
            embedded.push(step);
        }
        let first = first.begins(chain);
        Ok(Unfolded {
            result: Some(result),
            ..self.unfold(&first, embedded, send)?
        })
    }

    /// All of a group's tasks.
    fn unfold_members<'a, E: From<Refusal>>(
        &mut self,
        members: Vec<Part<'a>>,
        group: &'a Part<'a>,
        send: &mut Send<'_, E>,
    ) -> Result<Unfolded, E> {
        self.copy(group.options.size(), members.len())?;
        let mut results = Vec::new();
        for member in members {
            let member = member.belongs_to(group);
            let unfolded = self.unfold(&member, Vec::new(), send)?;
            if let Some(child) = unfolded.child {
                results.push(unfolded.result.unwrap_or(child));
            }
        }
        let sends = !results.is_empty();
        let child = || Value::Array(vec![json!([group.id(), null]), Value::Array(results)]);
        Ok(Unfolded {
            child: sends.then(child),
            result: None,
        })
    }

    fn unfold_task<E: From<Refusal>>(
        &mut self,
        task: &Part<'_>,
        rest: &[Part<'_>],
        send: &mut Send<'_, E>,
    ) -> Result<Unfolded, E> {
        let Some(tasks) = self.tasks.checked_sub(1) else {
            return Err(malformed(format!("a workflow of more than {MAX_TASKS} tasks")).into());
        };
        self.tasks = tasks;
        let memory = compose::check(task).map_err(Refusal::from)?;
        let Some(memory) = self.memory.checked_sub(memory) else {
            return Err(too_large(self.sent_limit).into());
        };
        self.memory = memory;
        let Some(calls) = self.calls.checked_sub(1) else {
            return Err(malformed(format!("a group of more than {MAX_CALLS} tasks")).into());
        };
        self.calls = calls;
        send(task, rest)?;
        Ok(Unfolded {
            child: Some(async_result(task.id(), Value::Null)),
            result: None,
        })
    }

    fn copy(&mut self, bytes: usize, times: usize) -> Result<(), Refusal> {
        match self.copied.checked_sub(bytes.saturating_mul(times)) {
            Some(left) => {
                self.copied = left;
                Ok(())
            }
            None => Err(malformed(format!(
                "options copied to the tasks of a workflow take more than {MAX_COPIED_BYTES} bytes"
            ))),
        }
    }
}

/// Only the last step of a chain can be a group: before another one it is the header of a chord.
fn check_followed(step: &Part<'_>, following: &[Part<'_>]) -> Result<(), Refusal> {
    if step.signature.is_group() && !following.is_empty() {
        return Err(unsupported(
            "a group followed by a task in a chain, which is a chord,",
        ));
    }
    Ok(())
}

/// Celery's `AsyncResult.as_tuple`.
fn async_result(id: &str, parent: Value) -> Value {
    let id = Value::Array(vec![id.into(), parent]);
    Value::Array(vec![id, Value::Null])
}

pub(crate) fn too_large(sent_limit: usize) -> Refusal {
    malformed(format!(
        "the messages that follow it take more than the {sent_limit} bytes of memory that they may: raise the worker's \
         memory_budget, or send less"
    ))
}

fn unsupported(what: &str) -> Refusal {
    Refusal::Unsupported {
        what: what.to_owned(),
    }
}
