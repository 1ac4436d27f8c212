//! Unfolding workflows: which task messages a signature stands for. What Celery's canvas does when a
//! chain or a group is applied, with ids that are the same each time.

mod steps;

use serde::Serialize;
use serde_json::{Value, json};

use crate::options::Options;
use crate::{Refusal, Signature, SignatureError};
use steps::{is_empty_group, is_group, link, members, name_steps, splice};

/// How many messages one signature may stand for.
const MAX_CALLS: usize = 10_000;
/// How much of a workflow may be copied to its tasks: a group's options go to each of its members, a
/// chain's `link_error` to each of its steps.
const MAX_COPIED_BYTES: usize = 64 << 20;

/// One task message to be.
pub(crate) struct Call {
    pub(crate) signature: Signature,
    /// Whether what its sender passes on (a result) comes before its own arguments.
    pub(crate) takes_args: bool,
    pub(crate) id: String,
    /// The rest of its chain, reversed.
    pub(crate) chain: Vec<Signature>,
}

/// What a signature stands for.
pub(crate) struct Unfolded {
    pub(crate) calls: Vec<Call>,
    /// What its sender lists among its children, as Celery nests it: of a chain the first task.
    /// None where there is nothing to send.
    pub(crate) child: Option<Value>,
    /// Its result among those of a group: of a chain the last task, with the others as parents.
    result: Value,
}

/// Checks that callbacks can be sent.
pub(crate) fn check_all(signatures: &[Signature]) -> Result<(), Refusal> {
    if signatures.len() > MAX_CALLS {
        return Err(malformed(format!("more than {MAX_CALLS} callbacks")));
    }
    signatures.iter().try_for_each(check)
}

/// Checks that a callback can be sent.
pub(crate) fn check(signature: &Signature) -> Result<(), Refusal> {
    if signature.is_workflow() {
        unfold(signature, "", &[]).map(drop)
    } else {
        Ok(signature.check()?)
    }
}

/// Checks that an element of a chain can be sent, and that nothing waits for it which is not told
/// when the chain fails before.
pub(crate) fn check_step(signature: &Signature) -> Result<(), Refusal> {
    if signature
        .options
        .get("chord")
        .is_some_and(|chord| !chord.is_null())
    {
        return Err(unsupported("a chain in the header of a chord"));
    }
    check(signature)
}

/// Unfolds a signature whose id is `id`, with `rest` of a chain after it, reversed.
pub(crate) fn unfold(
    signature: &Signature,
    id: &str,
    rest: &[Signature],
) -> Result<Unfolded, Refusal> {
    Copies {
        left: MAX_COPIED_BYTES,
    }
    .unfold(signature, id, rest)
}

/// How much may still be copied.
struct Copies {
    left: usize,
}

impl Copies {
    fn unfold(
        &mut self,
        signature: &Signature,
        id: &str,
        rest: &[Signature],
    ) -> Result<Unfolded, Refusal> {
        match signature.subtask_type.as_deref() {
            Some("chain") => self.unfold_chain(signature, id, rest),
            Some("group") => self.unfold_group(signature, id, rest),
            Some("chord") => Err(unsupported("a chord")),
            Some(other) if signature.is_workflow() => Err(malformed(format!(
                "`subtask_type` of {:?} is {other:?}",
                signature.task
            ))),
            _ => unfold_task(signature, id, rest),
        }
    }

    /// The first task, with the others embedded.
    fn unfold_chain(
        &mut self,
        chain: &Signature,
        id: &str,
        rest: &[Signature],
    ) -> Result<Unfolded, Refusal> {
        let options = Options::read(&chain.task, &chain.options)?;
        let mut steps = Vec::new();
        splice(chain, &mut steps)?;
        if steps.len() > 1 {
            // Celery drops empty groups from a chain with anything else in it.
            steps.retain(|step| !is_empty_group(step));
        }
        self.copy(&options.link_error, steps.len())?;
        link(&options, &mut steps)?;
        let ids = name_steps(&mut steps, chain, id)?;
        let mut embedded = rest.to_vec();
        if embedded.is_empty() {
            embedded = options
                .chain
                .iter()
                .map(Signature::from_json)
                .collect::<Result<_, SignatureError>>()?;
        }
        let result = ids
            .iter()
            .fold(Value::Null, |parent, id| async_result(id, parent));

        let mut steps = steps.into_iter();
        let (Some(mut first), Some(first_id)) = (steps.next(), ids.first()) else {
            return Ok(Unfolded {
                calls: Vec::new(),
                child: None,
                result,
            });
        };
        for step in steps.rev() {
            self.unfold(&step, "", &[])?;
            check_followed(&step, &embedded)?;
            embedded.push(step);
        }
        for (name, value) in &chain.options {
            if !CONSUMED_BY_CHAIN.contains(&name.as_str()) {
                first.options.insert(name.clone(), value.clone());
            }
        }
        // The chain's own arguments come between those of its sender and those of its first task.
        first.prepend(&chain.args);
        let mut unfolded = self.unfold(&first, first_id, &embedded)?;
        for call in &mut unfolded.calls {
            call.takes_args &= !chain.immutable;
        }
        Ok(Unfolded { result, ..unfolded })
    }

    /// All of a group's tasks, with groups in it laid out flat.
    fn unfold_group(
        &mut self,
        group: &Signature,
        id: &str,
        rest: &[Signature],
    ) -> Result<Unfolded, Refusal> {
        check_followed(group, rest)?;
        if group
            .options
            .get("chord")
            .is_some_and(|chord| !chord.is_null())
        {
            return Err(unsupported("a chord"));
        }
        let members = members(group, id)?;
        self.copy(&group.options, members.len())?;
        let mut unfolded = Unfolded {
            calls: Vec::new(),
            child: None,
            result: Value::Null,
        };
        let mut results = Vec::new();
        for mut member in members {
            let member_id = member.task_id().unwrap_or_default().to_owned();
            for (name, value) in &group.options {
                if !matches!(name.as_str(), "task_id" | "group_id" | "group_index") {
                    member.options.insert(name.clone(), value.clone());
                }
            }
            member
                .options
                .entry("group_id")
                .or_insert_with(|| id.into());
            let part = self.unfold(&member, &member_id, &[])?;
            if part.child.is_none() {
                continue;
            }
            unfolded.calls.extend(part.calls);
            if unfolded.calls.len() > MAX_CALLS {
                return Err(malformed(format!("a group of more than {MAX_CALLS} tasks")));
            }
            results.push(part.result);
        }
        unfolded.result = json!([[id, null], results]);
        unfolded.child = Some(unfolded.result.clone()).filter(|_| !unfolded.calls.is_empty());
        Ok(unfolded)
    }

    fn copy(&mut self, value: &impl Serialize, times: usize) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(value).map_or(usize::MAX, |json| json.len());
        match self.left.checked_sub(bytes.saturating_mul(times)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(malformed(format!(
                "options copied to the tasks of a workflow take more than {MAX_COPIED_BYTES} bytes"
            ))),
        }
    }
}

fn unfold_task(signature: &Signature, id: &str, rest: &[Signature]) -> Result<Unfolded, Refusal> {
    signature.check()?;
    let result = async_result(id, Value::Null);
    let call = Call {
        signature: signature.clone(),
        takes_args: !signature.immutable,
        id: id.to_owned(),
        chain: rest.to_vec(),
    };
    Ok(Unfolded {
        calls: vec![call],
        child: Some(result.clone()),
        result,
    })
}

/// Only the last step of a chain can be a group: before another one it is the header of a chord.
fn check_followed(step: &Signature, following: &[Signature]) -> Result<(), Refusal> {
    if is_group(step) && !following.is_empty() {
        return Err(unsupported(
            "a group followed by a task in a chain, which is a chord,",
        ));
    }
    Ok(())
}

/// Options of a chain that are not passed on to its first task.
const CONSUMED_BY_CHAIN: [&str; 9] = [
    "task_id",
    "group_id",
    "group_index",
    "chord",
    "link",
    "link_error",
    "root_id",
    "parent_id",
    "chain",
];

/// Celery's `AsyncResult.as_tuple`.
fn async_result(id: &str, parent: Value) -> Value {
    json!([[id, parent], null])
}

fn unsupported(what: &str) -> Refusal {
    Refusal::Unsupported {
        what: what.to_owned(),
    }
}

fn malformed(reason: String) -> Refusal {
    Refusal::Malformed { reason }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self::Malformed {
            reason: error.to_string(),
        }
    }
}
